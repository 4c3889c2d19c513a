"""The parts of the growth benchmark: what N subscribers cost, for N up to the limit of files.

Each takes the settings and returns a list of plain values. Runs of what is compared alternate, one
server at a time.
"""

import dataclasses
import functools
import os
import pathlib
import resource
import statistics
import sys
import time

from parts import SENDS, alternate, cpu_per_million, latencies, median, most_disturbed
from servers import BareRelay, BareSender, Evrelay, Load, measure, run

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import tls  # noqa: E402: tests/support

# Up to here the bare sender is what evrelay is compared with. It pushes at everyone as much as the
# sockets take, which for more subscribers is more than the kernel has for TCP (tcp_mem).
MOST_PUSHED = 1000
# So for more, the producer stays ahead of the slowest by as many bytes as make this for all.
ON_THE_WAY = 2**30
# Deliveries a second of single events: about half of what a core can do.
SINGLE_RATE = 100000
# Connections over TLS at most, in the part `crowd`: a handshake takes a third of a millisecond.
MOST_TLS = 10000

ADMITTING_SCRIPT = """
event_route["evapi:connection-new"] = function(evapi) evapi.set_tag("member") end
"""


@dataclasses.dataclass
class Settings:
    programs: pathlib.Path  # folder of bench-load, bench-crowd, bench-fair …
    binary: pathlib.Path    # evrelay
    folder: pathlib.Path    # for sockets and configuration
    counts: list            # of subscribers
    batching: int           # subscribers in the part `batching`
    tls_counts: list        # and in the part `tls`
    idle: int               # members of the fairness part that are sent nothing
    runs: int
    seconds: float
    check_all: bool         # compare every byte received

    def evrelay(self, subscribers, **options):
        return Evrelay(self.binary, self.folder, max_clients=subscribers + 10, **options)

    def run(self, server, subscribers, **options):
        return run(self.programs, server, subscribers, seconds=self.length(subscribers),
                   warmup=self.warmup(subscribers), check_all=self.check_all, **options)

    def length(self, subscribers):
        """Seconds of a run. One event takes long to reach 10,000."""
        return self.seconds * (2 if subscribers > MOST_PUSHED else 1)

    def warmup(self, subscribers):
        return self.length(subscribers) / 4


class Crowd(Load):
    """bench-crowd. With the CA of a certificate, its subscribers come over TLS."""

    program = "bench-crowd"
    ready = "ready"

    def come(self, server, count):
        """Lets them connect; what it took until all are admitted."""
        cpu = server.child.cpu_seconds()
        self.go()
        result = self.result()
        server.await_subscribers(count)
        result["admitted"] = time.monotonic() - result["began"]
        result["server_cpu_s"] = server.child.cpu_seconds() - cpu
        return result


@functools.cache
def certificate():
    return tls.server()


def most_subscribers():
    """That a server and a client can have, both with this process's limit of files."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 100


def delivery(settings):
    """As fast as it goes. CPU of a delivery, in ns, is what `cpu_per_million` is in ms."""
    return [saturated(settings, size, count) for size in (64, 1024) for count in settings.counts]


def saturated(settings, size, count):
    window = 0 if count <= MOST_PUSHED else ON_THE_WAY // count
    options = {"size": size, "window": window}

    def bare(send):
        server = BareSender(settings.programs, count, size, send)
        return settings.run(server, count, size=size)

    def bare_relay():
        server = BareRelay(settings.programs, settings.folder, count)
        return settings.run(server, count, **options)

    variants = {"evrelay": lambda: settings.run(settings.evrelay(count), count, **options)}
    if count <= MOST_PUSHED:
        variants |= {send: lambda send=send: bare(send) for send in SENDS}
    else:
        variants["bare relay"] = bare_relay
    results = alternate(settings.runs, variants)
    rival = max(list(results)[1:], key=lambda name: median(results[name], "rate"))
    ours, theirs = results["evrelay"], results[rival]
    return {
        "size": size, "subscribers": count, "window": window,
        "rival": "bare relay" if count > MOST_PUSHED else "bare sender",
        "rate": median(ours, "rate"), "rival_rate": median(theirs, "rate"),
        "ratio": median(ours, "rate") / median(theirs, "rate"),
        "cpu_ns": cpu_per_million(ours) * 1e3, "rival_cpu_ns": cpu_per_million(theirs) * 1e3,
        "growth_bytes": max(result["growth_bytes"] for result in ours),
        "others_cpu_share": most_disturbed(results),
        "runs": {str(name): runs for name, runs in results.items()},
    }


def single(settings):
    """Events so far apart that each is sent alone."""
    cells = []
    for size in (64, 1024):
        for count in settings.counts:
            options = {"size": size, "rate": min(1000, SINGLE_RATE / count)}

            def relay(count=count, options=options):
                return settings.run(settings.evrelay(count), count, **options)

            def bare(count=count, options=options):
                server = BareRelay(settings.programs, settings.folder, count)
                return settings.run(server, count, **options)

            results = alternate(settings.runs, {"evrelay": relay, "bare": bare})
            cells.append({
                "size": size, "subscribers": count, "rate": options["rate"],
                "cpu_ns": cpu_per_million(results["evrelay"]) * 1e3,
                "bare_cpu_ns": cpu_per_million(results["bare"]) * 1e3,
                "others_cpu_share": most_disturbed(results), "runs": results,
            } | latencies(results))
    return cells


def batching(settings):
    """From single events to many that share a send."""
    size, count = 64, settings.batching

    def relay(rate):
        return settings.run(settings.evrelay(count), count, size=size, rate=rate)

    results = alternate(settings.runs, {rate: lambda rate=rate: relay(rate)
                                        for rate in (10, 100, 1000, 10000)})
    return [{
        "size": size, "subscribers": count, "rate": rate,
        "cpu_ns": cpu_per_million(runs) * 1e3,
        "cpu_share": statistics.median(run["server_cpu_s"] / run["seconds"] for run in runs),
        "others_cpu_share": most_disturbed({rate: runs}), "runs": runs,
    } | latencies({"event": runs}) for rate, runs in results.items()]


def crowd(settings):
    """All connect at once: the time until they are admitted, and the memory of the idle ones."""
    kinds = {"plain": {}, "script": {"script": ADMITTING_SCRIPT},
             "TLS": {"certificate": certificate()}}
    cells = []
    for count in settings.counts:
        if count < 1000 and count != max(settings.counts):
            continue
        variants = {kind: lambda options=options, count=count: come(settings, count, **options)
                    for kind, options in kinds.items() if kind != "TLS" or count <= MOST_TLS}
        for kind, results in alternate(settings.runs, variants).items():
            kernel = [result["kernel_bytes"] for result in results]
            cells.append({
                "kind": kind, "subscribers": count,
                "connected": median(results, "seconds"), "admitted": median(results, "admitted"),
                "rate": count / median(results, "admitted"),
                "cpu_us_each": median(results, "server_cpu_s") / count * 1e6,
                "rss_each": median(results, "rss_bytes") / count,
                "kernel_each": None if None in kernel else statistics.median(kernel) / count / 2,
                "runs": results,
            })
    return cells


def come(settings, count, **options):
    with settings.evrelay(count, **options) as server:
        ca = {"ca": options["certificate"].ca} if "certificate" in options else {}
        rss, kernel = server.child.memory("VmRSS"), kernel_memory()
        with Crowd(settings.programs, server, subscribers=count, hold=True, **ca) as load:
            result = load.come(server, count)
            result["rss_bytes"] = server.child.memory("VmRSS") - rss
            result["kernel_bytes"] = kernel_memory() - kernel if kernel else None
            load.end()
        server.facts()
    return result


def kernel_memory():
    """Bytes of the kernel's objects, and of what stands in TCP's queues; None: only root may know.

    Objects in use are counted, not the memory that caches hold: that of the run before is given
    back late.
    """
    try:
        slabs = pathlib.Path("/proc/slabinfo").read_text().splitlines()[2:]
    except PermissionError:
        return None
    objects = sum(int(fields[1]) * int(fields[3]) for fields in map(str.split, slabs))
    for line in pathlib.Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            queues = int(line.split()[-1]) * os.sysconf("SC_PAGE_SIZE")
    return objects + queues


def over_tls(settings):
    """Deliveries over TLS against plain ones, by the same program. The CPU is the server's."""
    cells = []
    for size in (64, 1024, 16384):
        for count in settings.tls_counts:
            def listen(size=size, count=count, made=None):
                server = settings.evrelay(count, certificate=made)
                return listen_to(settings, server, count, size, made)

            results = alternate(settings.runs, {
                "plain": listen, "TLS": lambda listen=listen: listen(made=certificate())})
            plain, encrypted = results["plain"], results["TLS"]
            cells.append({
                "size": size, "subscribers": count,
                "rate": median(encrypted, "rate"), "plain_rate": median(plain, "rate"),
                "ratio": median(encrypted, "rate") / median(plain, "rate"),
                "cpu_ns": cpu_per_million(encrypted) * 1e3,
                "plain_cpu_ns": cpu_per_million(plain) * 1e3,
                "others_cpu_share": most_disturbed(results), "runs": results,
            })
    return cells


def listen_to(settings, server, count, size, made):
    ca = {"ca": made.ca} if made else {}
    with server:
        with Crowd(settings.programs, server, subscribers=count, size=size,
                   seconds=settings.seconds, warmup=settings.warmup(count),
                   check_all=settings.check_all, **ca) as load:
            load.come(server, count)
            result = measure(server, load)
            load.end()
        server.facts()
    return result
