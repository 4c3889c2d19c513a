#!/usr/bin/env python3
"""evrelay beside what else fans out: nats-server, redis-server, mosquitto and Kamailio's evapi; see
README.md beside this file.

Needs a build with tests, and the servers (`./dev bench peers` has both). Writes
BUILD/bench/peers.json and plots, prints tables. Exit code 1: a run of evrelay or of a bare program
was wrong. That a peer cannot be measured is a result.
"""

import argparse
import dataclasses
import json
import pathlib
import resource
import statistics
import sys
import tempfile
import time

import bench
import checker
import machine
import parts
import peer_servers
import peers_report
import report
import servers
from arguments import cells, some_of
from parts import SENDS, cpu_per_million, latencies, median, most_disturbed

ROOT = pathlib.Path(__file__).resolve().parents[2]
MAX_LAG = 8 * 2**20  # evrelay's, for the stalled


@dataclasses.dataclass
class Settings(parts.Settings):
    peers: dict       # {name: class}, of those that are here
    window: int       # bytes the producer may be ahead of the slowest subscriber
    connections: int  # that come in a storm
    stalled_seconds: float

    def peer(self, name, clients, **options):
        return self.peers[name](self.folder, clients + 10, **options)

    def window_of(self, name, size):
        return self.peers[name].window(size) or self.window


def alternate(runs, variants, may_fail):
    """{name: function} → {name: results}, {name: why it has none}."""
    results, failed = {name: [] for name in variants}, {}
    for _ in range(runs):
        for name in list(results):
            try:
                results[name].append(variants[name]())
            except servers.BenchError as error:
                if name not in may_fail:
                    raise
                failed[name] = str(error)
                del results[name]
    return results, failed


def throughput(settings):
    """Deliveries a second, and what they cost."""
    cells = []
    for size, subscribers in settings.cells:
        def run(server, window, size=size, subscribers=subscribers):
            return settings.run(server, subscribers, size=size, window=window)

        def bare(send, size=size, subscribers=subscribers):
            return servers.BareSender(settings.programs, subscribers, size, send)

        def bare_relay(subscribers=subscribers):
            return servers.BareRelay(settings.programs, settings.folder, subscribers)

        variants = {
            "evrelay": lambda run=run: run(settings.evrelay(), settings.window),
            "relay": lambda run=run, relay=bare_relay: run(relay(), settings.window),
        } | {
            send: lambda send=send, run=run, bare=bare: run(bare(send), 0) for send in SENDS
        } | {
            name: lambda name=name, run=run, size=size, subscribers=subscribers: run(
                settings.peer(name, subscribers), settings.window_of(name, size))
            for name in settings.peers}
        results, failed = alternate(settings.runs, variants, settings.peers)
        best = max(SENDS, key=lambda send: median(results[send], "rate"))
        others_cpu_share = most_disturbed(results)
        runs = {str(name): runs for name, runs in results.items()}
        results["bare"] = results[best]
        for send in SENDS:
            del results[send]
        cells.append({
            "size": size,
            "subscribers": subscribers,
            "rate": {name: median(runs, "rate") for name, runs in results.items()},
            "cpu_ns": {name: 1e3 * cpu_per_million(runs) for name, runs in results.items()},
            "growth_bytes": {name: max(run["growth_bytes"] for run in runs)
                             for name, runs in results.items()},
            "bare_send": best,
            "failed": failed,
            "others_cpu_share": others_cpu_share,
            "runs": runs,
        })
    return cells


def latency(settings):
    """From the time an event is due to each of its deliveries."""
    cells = []
    for subscribers, rate in settings.latency:
        def run(server, subscribers=subscribers, rate=rate):
            return settings.run(server, subscribers, size=64, rate=rate,
                                seconds=settings.seconds * 1.5)

        variants = {
            "evrelay": lambda run=run: run(settings.evrelay()),
            "relay": lambda run=run, subscribers=subscribers: run(
                servers.BareRelay(settings.programs, settings.folder, subscribers)),
        } | {name: lambda name=name, run=run, subscribers=subscribers: run(
            settings.peer(name, subscribers)) for name in settings.peers}
        # Single runs differ by more than the targets are about: so there are more of them.
        results, failed = alternate(2 * settings.runs - 1, variants, settings.peers)
        cells.append({"subscribers": subscribers, "rate": rate, "servers": list(results),
                      "failed": failed, "others_cpu_share": most_disturbed(results),
                      "runs": results} | latencies(results))
    return cells


def stalled(settings):
    """One of 50 subscribers never reads. The peers treat it as they do by default."""
    subscribers, size = 50, 1024

    def run(server, count, window):
        result = settings.run(server, subscribers, size=size, window=window, stalled=count,
                              seconds=settings.stalled_seconds, read_stalled=count > 0)
        result["rate_each"] = result["rate"] / (subscribers - count)
        return result

    def relay(policy, count):
        server = settings.evrelay(f"{{policy: {policy}, max_lag: {MAX_LAG}}}")
        return run(server, count, settings.window)

    def peer(name, count):
        return run(settings.peer(name, subscribers, tuned=False), count,
                   settings.window_of(name, size))

    variants = {("evrelay", policy, count): lambda policy=policy, count=count: relay(policy, count)
                for policy, count in (("skip", 0), ("skip", 1), ("disconnect", 1))}
    variants |= {(name, "default", count): lambda name=name, count=count: peer(name, count)
                 for name in settings.peers for count in (0, 1)}
    results, failed = alternate(
        min(3, settings.runs), variants, [name for name in variants if name[0] != "evrelay"])

    rows = []
    for name, policy, count in variants:
        if count == 0:
            continue
        row = {"server": name, "policy": policy}
        free = results.get((name, "skip" if name == "evrelay" else policy, 0))
        held = results.get((name, policy, 1))
        row["failed"] = failed.get((name, policy, 1)) or failed.get((name, policy, 0))
        if free is not None:
            row["rate_free"] = median(free, "rate_each")
        if free is not None and held is not None:
            row["rate_held"] = median(held, "rate_each")
            row["ratio"] = row["rate_held"] / row["rate_free"]
            row["growth_bytes"] = median(held, "growth_bytes") - median(free, "growth_bytes")
            row["received_share"] = statistics.median(
                run["stalled_received"] / run["sent"] for run in held)
            row["closed"] = statistics.median(run["stalled_closed"] for run in held)
        rows.append(row)
    return {"subscribers": subscribers, "size": size, "max_lag": MAX_LAG, "rows": rows,
            "others_cpu_share": most_disturbed(results),
            "runs": {"/".join(map(str, name)): runs for name, runs in results.items()}}


def connections(settings):
    """How fast a storm of subscribers is admitted, and what each then takes of memory."""
    count = settings.connections

    def storm(make):
        # What a server takes for room that it makes at its start counts too.
        with make(10) as small:
            before = small.child.memory("VmRSS")
        with make(count) as server:
            with servers.Storm(settings.programs, server, count) as load:
                load.go()
                told = load.result()
                server.await_subscribers(count)
                end = told["end"] if server.greets else time.monotonic()
                return {"per_second": count / (end - told["begin"]),
                        "bytes_each": (server.child.memory("VmRSS") - before) / count}

    variants = {"evrelay": lambda: storm(lambda _clients: settings.evrelay())}
    variants |= {name: lambda name=name: storm(
        lambda clients: settings.peer(name, clients, tuned=False))
                 for name in settings.peers}
    results, failed = alternate(settings.runs, variants, settings.peers)
    return {"connections": count, "failed": failed, "runs": results, "rows": [
        {"server": name} | {key: median(runs, key) for key in ("per_second", "bytes_each")}
        for name, runs in results.items()]}


PEER_PARTS = {"throughput": throughput, "latency": latency, "stalled": stalled,
              "connections": connections, "hook": parts.hook}
# For the targets that have no peer.
OWN_PARTS = {name: parts.PARTS[name] for name in ("hook-latency", "requests", "idle")}
PARTS = PEER_PARTS | OWN_PARTS


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="./dev bench peers", description="Measures evrelay beside what else fans out.")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release",
                        help="build folder (default: build/release)")
    parser.add_argument("--smoke", action="store_true",
                        help="every part with peers, once and small, in less than 20 s: does it "
                             "work at all?")
    parser.add_argument("--parts", type=some_of(PARTS),
                        help="only these, separated by commas: " + ", ".join(PARTS))
    parser.add_argument("--peers", type=some_of(peer_servers.PEERS),
                        default=list(peer_servers.PEERS),
                        help="only these, separated by commas: " + ", ".join(peer_servers.PEERS))
    parser.add_argument("--cells", type=cells,
                        default=[(size, count) for size in bench.SIZES
                                 for count in bench.SUBSCRIBERS],
                        help="throughput cells, as 64x100,1024x10 (size x subscribers)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each figure (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.0,
                        help="length of a throughput run (default: 1); others scale with it")
    parser.add_argument("--window", type=int, default=4, metavar="MIB",
                        help="how far producers may be ahead of the slowest (default: 4)")
    parser.add_argument("--results", type=pathlib.Path, metavar="FILE",
                        help="also replace the tables in FILE, as tests/bench/RESULTS.md, and the "
                             "plots beside it")
    arguments = parser.parse_args()
    if arguments.results and arguments.parts is not None:
        parser.error("--results is for all parts")
    if arguments.parts is None:
        arguments.parts = list(PEER_PARTS if arguments.smoke else PARTS)
    return arguments


def settings_of(arguments, folder, peers):
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    settings = Settings(
        programs=arguments.build / "tests/bench", binary=arguments.build / "src/evrelay",
        folder=pathlib.Path(folder), cells=arguments.cells, latency=bench.LATENCY,
        hook_latency=bench.HOOK_LATENCY, runs=arguments.runs, seconds=arguments.seconds,
        idle_connections=0, idle_subscribers=1000, check_all=False, peers=peers,
        window=arguments.window * 2**20, connections=min(10000, files - 200),
        stalled_seconds=arguments.seconds * 4)
    if arguments.smoke:
        settings.cells = [(64, 10)]
        settings.latency = settings.hook_latency = ((10, 1000),)
        settings.runs = 1
        settings.seconds = 0.15
        settings.connections = 200
        settings.stalled_seconds = 0.05  # before the stalled one holds up anybody
        settings.idle_subscribers = 50
        settings.check_all = True
    return settings


def describe(settings, missing):
    """The machine, and what was measured on it."""
    facts = machine.describe(settings.binary)
    return facts | {
        "versions": {"evrelay": facts["version"]} | {
            name: peer.version() for name, peer in settings.peers.items()},
        "missing": missing,
        "runs": settings.runs,
        "seconds": settings.seconds,
        "window": settings.window,
    }


def main():
    arguments = parse_arguments()
    missing = {name: peer_servers.PEERS[name].missing() for name in arguments.peers}
    peers = {name: peer_servers.PEERS[name] for name, why in missing.items() if why is None}
    missing = {name: why for name, why in missing.items() if why is not None}
    with tempfile.TemporaryDirectory(prefix="evrelay-bench-") as folder:
        settings = settings_of(arguments, folder, peers)
        for program in (settings.binary, settings.programs / "bench-load"):
            if not program.exists():
                sys.exit(f"{program}: not there; build first, or name the build with --build")
        results = describe(settings, missing)
        try:
            checker.check(settings.programs, checker.WIRES)
            for name in arguments.parts:
                print(f"{name} …", file=sys.stderr, flush=True)
                results[name] = PARTS[name](settings)
        except servers.BenchError as error:
            sys.exit(f"bench: {error}")

    results["targets"] = peers_report.targets(results) + report.targets(
        {name: results[name] for name in ("hook", *OWN_PARTS) if name in results})
    out = arguments.build / "bench"
    out.mkdir(exist_ok=True)
    (out / "peers.json").write_text(json.dumps(results, indent=1) + "\n")
    tables = peers_report.tables(results)
    print("\n\n".join(tables.values()))
    peers_report.plot(results, out / "peers")
    if arguments.results:
        peers_report.replace_tables(arguments.results, tables)
        peers_report.plot(results, arguments.results.with_suffix(""))
    print(f"written: {out}/peers.json and plots")


if __name__ == "__main__":
    main()
