"""The arrows between the folders of src (who may include whom), checked on every #include line.

usage: layering.py SOURCE_ROOT COMPILER...

Prints TAP: one case a folder, one a library that has a single home, one a public header.
"""

import pathlib
import re
import subprocess
import sys

from support.tap import Tap, stdout_for_tap

# Folder -> folders it may include, as `dependencies` in src/*/meson.build say; what those may
# include is allowed too. "" is src itself: cli, daemon, main.
ARROWS = {
    "util": [],
    "metrics": [],
    "config": [],
    "logging": ["util"],
    "event": ["util"],
    "net": ["event", "logging"],
    "codec": ["util"],
    "fanout": ["codec"],
    "relay": ["fanout", "event", "logging"],
    "hook": ["logging"],
    "worker": ["hook", "relay"],
    "producer": ["relay", "net"],
    "subscriber": ["worker", "net"],
    "system": ["util"],
    "admin": ["relay", "net"],
    "client": ["net", "codec", "system"],
    "": ["config", "producer", "subscriber", "admin", "system", "client"],
}

# Plain data that every folder may include.
LEAVES = {
    "config/config.h",
    "metrics/counters.h",
    "metrics/reasons.h",
    "evrelay/action.h",
    "evrelay/ids.h",
    "evrelay/netstring.h",
    "evrelay/version.h",
}

# What a public header may include beside standard headers and other public ones.
POSIX = {
    "producer.h": {
        "poll.h",
        "sys/socket.h",
        "sys/stat.h",
        "sys/time.h",
        "sys/un.h",
        "unistd.h",
    },
}

# Public headers that programs in C++17 can use.
CXX17 = {"netstring.h", "producer.h"}

# Library -> how its headers are named, and the only files (by prefix) that name it.
HOMES = {
    "libev": (r"ev(\+\+)?\.h", ["event/"]),
    "yaml-cpp": (r"yaml-cpp/.*", ["config/"]),
    "CLI11": (r"CLI/.*", ["cli.cc"]),
    "Lua": (r"(lua|lauxlib|lualib|lua-cjson)\.h(pp)?", ["hook/"]),
    "spdlog and fmt": (r"(spdlog|fmt)/.*", ["logging/"]),
    "nlohmann-json": (r"nlohmann/.*", ["admin/", "client/"]),
    "OpenSSL": (r"openssl/.*", ["net/tls_"]),
    "systemd": (r"systemd/.*", ["system/", "logging/"]),
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
# Standard C++ headers have neither a dot nor a slash in their names.
STANDARD = re.compile(r"[a-z_]+")


def includes(path):
    """(quote, name) of each #include line."""
    return INCLUDE.findall(path.read_text(encoding="utf-8"))


def reachable(folder):
    seen = {folder}
    todo = [folder]
    while todo:
        for nearer in ARROWS[todo.pop()]:
            if nearer not in seen:
                seen.add(nearer)
                todo.append(nearer)
    return seen


def folder_of(name):
    return name.split("/")[0] if "/" in name else ""


def against_arrows(folder, files, build_file):
    allowed = reachable(folder)
    for name in re.findall(r"\bdep_(\w+)", build_file.read_text(encoding="utf-8")):
        if name in ARROWS and name not in allowed:
            yield f"{build_file} links {name}; allowed: {', '.join(sorted(allowed - {''}))}"
    for name, path in files:
        for quote, target in includes(path):
            if quote == '"' and target not in LEAVES and folder_of(target) not in allowed:
                yield f"src/{name} includes {target}; allowed: {', '.join(sorted(allowed - {''}))}"


def away_from_home(pattern, homes, files):
    for name, path in files:
        for _, target in includes(path):
            if re.fullmatch(pattern, target) and not name.startswith(tuple(homes)):
                yield f"src/{name} includes {target}; only {', '.join(homes)} may"


def not_standalone(header, compiler):
    for quote, target in includes(header):
        if quote == "<":
            allowed = STANDARD.fullmatch(target) or target in POSIX.get(header.name, ())
        else:
            allowed = target.startswith("evrelay/")
        if not allowed:
            yield f"{header.name} includes {target}; allowed: standard headers, evrelay/..."
    standard = "-std=c++17" if header.name in CXX17 else "-std=c++20"
    command = compiler + [standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
    result = subprocess.run(
        command + ["-I", header.parent.parent, "-x", "c++", "-"],
        input=f'#include "{header}"\n',
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        yield result.stdout


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    root = pathlib.Path(sys.argv[1])
    compiler = sys.argv[2:]
    src = root / "src"
    files = sorted(
        (str(path.relative_to(src)), path) for path in src.rglob("*") if path.suffix in (".cc", ".h")
    )
    folders = sorted({folder_of(name) for name, _ in files} | ARROWS.keys())
    headers = sorted((root / "include" / "evrelay").glob("*.h"))

    tap = Tap(stdout_for_tap())
    tap.plan(len(folders) + len(HOMES) + len(headers))

    def case(name, problems):
        problems = list(problems)
        tap.case(not problems, name, "\n".join(problems))

    for folder in folders:
        mine = [(name, path) for name, path in files if folder_of(name) == folder]
        if folder not in ARROWS:
            case(f"src/{folder}", ["this folder is not in the table of tests/layering.py"])
        else:
            build_file = src / folder / "meson.build"
            case(
                f"src/{folder} includes and links only what its arrows allow",
                against_arrows(folder, mine, build_file),
            )
    for library, (pattern, homes) in HOMES.items():
        case(f"{library} is named only in {', '.join(homes)}", away_from_home(pattern, homes, files))
    for header in headers:
        case(f"evrelay/{header.name} stands alone", not_standalone(header, compiler))
    return 1 if tap.failed else 0


if __name__ == "__main__":
    sys.exit(main())
