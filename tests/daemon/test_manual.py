"""The manual pages and the default configuration against the program: no name that exists is missing
there, and none is there that does not exist."""

import pathlib
import re

from relay import RelayCase, evrelay

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What can be set but limits nothing.
NO_LIMITS = {"workers", "netstring_format", "bad_frame", "script", "event_callback", "bind_addr"}
NO_LIMITS |= {"hook.patterns", "slow_subscriber.policy", "log.level", "log.target"}
NO_LIMITS |= {"producer.mode", "producer.user", "producer.group", "producer.allow", "control.mode"}


def page(name):
    return (ROOT / "man" / name).read_text(encoding="utf-8")


def section(name, title):
    """The lines of one section of a page."""
    found = re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", page(name), re.MULTILINE | re.DOTALL)
    return found[1].splitlines()


def heads(lines, macro):
    """The names that the items of a section's lists explain."""
    names = []
    for line in lines:
        if line.startswith(f".It {macro} "):
            names += line.split()[2:]
    return [name for name in names if name != ","]


def paths(value, prefix=""):
    """Dotted names of all members that are no objects."""
    if not isinstance(value, dict):
        return {prefix}
    return {path for key, inner in value.items() for path in paths(inner, f"{prefix}.{key}")}


def parent(path):
    return path.rpartition(".")[0]


def defaults():
    """{key: value as it is written} of config/evrelay.yaml."""
    found = {}
    prefix = ""
    for line in (ROOT / "config" / "evrelay.yaml").read_text(encoding="utf-8").splitlines():
        entry = re.fullmatch(r"( *)([a-z_]+):(.*)", line)
        if entry is None:
            continue
        indent, key, value = entry[1], entry[2], entry[3].strip()
        if not indent:
            prefix = ""
        found[prefix + key] = value
        if not indent and not value:
            prefix = key + "."
    sections = {parent(key) for key in found}
    return {key: value for key, value in found.items() if key not in sections}


class Manual(RelayCase):
    def setUp(self):
        super().setUp()
        self.names = {path[1:] for path in paths(self.start().status())}

    def test_metrics(self):
        described = set(heads(section("evrelay.8", "METRICS"), "Li"))
        for name in self.names:
            self.assertTrue({name, parent(name)} & described, name)
        for name in described:
            known = {name, *(n for n in self.names if parent(n) == name)} & self.names
            self.assertTrue(known, f"{name} is in no status")

    def test_reasons(self):
        described = set(heads(section("evrelay-protocol.7", "REASONS"), "Cm"))
        groups = re.compile(r"(subscribers|producers)\.(closed|refused)|deliveries\.dropped|tls\.failed")
        words = {n.rpartition(".")[2] for n in self.names if groups.fullmatch(parent(n))}
        self.assertEqual(words, described)


class Keys(RelayCase):
    def known(self, text):
        """The keys that stand beside an unknown one in a file."""
        path = pathlib.Path(self.directory()) / "keys.yaml"
        path.write_text(text, encoding="utf-8")
        done = evrelay("-c", str(path), "--check")
        return re.search("known here: (.*)", done.stderr)[1].split(", ")

    def all_keys(self):
        for key in self.known("'?': 1"):
            found = evrelay("--check", "-c", "/dev/stdin", stdin=f"{key}: [1]".encode()).stderr
            if "give a map with keys such as" in found:
                for inner in self.known(f"{key}: {{'?': 1}}"):
                    yield f"{key}.{inner}"
            else:
                yield key

    def test_every_key_is_described(self):
        described = heads(section("evrelay.yaml.5", "KEYS"), "Cm")
        described = [name for name in described if re.fullmatch(r"[a-z_.]+", name)]
        for key in self.all_keys():
            self.assertIn(key, described)

    def test_every_key_is_in_the_default_configuration(self):
        # The paths of sockets depend on where it runs.
        self.assertEqual(
            set(self.all_keys()) - {"producer.socket", "control.socket"}, set(defaults())
        )

    def test_every_limit_and_its_default(self):
        table = {}
        for line in section("evrelay.8", "LIMITS"):
            row = re.fullmatch(r"\.It Cm (\S+) Ta (.*?) Ta .*", line)
            if row is not None:
                table[row[1]] = row[2].replace(" ", "")
        limits = {key: value for key, value in defaults().items() if key not in NO_LIMITS}
        self.assertEqual(table, limits)
