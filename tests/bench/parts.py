"""The parts of the benchmark: what is run, in which order, and which figures come out.

Each takes the settings and returns a list or dict of plain values. Runs of what is compared
alternate (A B A B …), one server at a time.
"""

import dataclasses
import math
import pathlib
import statistics
import time

from peer_servers import Kamailio
from servers import BareRelay, BareSender, BenchError, Burner, Evrelay, Load, run, run_messages

SENDS = (64 * 1024, 256 * 1024)  # bytes a send of the bare sender; the better one counts
POINTS = ("p50", "p99", "p99.9")

# Messages that are counted for each second of a run: so that it lasts about as long as others.
MESSAGES = {"evrelay": 3000000, "kamailio": 500000}

# Counts messages; tells the count once it has come to LAST, and whenever a connection has closed.
COUNTING_SCRIPT = """
local count = 0
event_route["evapi:message-received"] = function(evapi)
  count = count + 1
  if count == LAST then evapi.relay(tostring(count)) end
end
event_route["evapi:connection-closed"] = function(evapi)
  evapi.relay(tostring(count))
end
"""
COUNTING_ROUTES = """
event_route[evapi:message-received] {
  $var(count) = $var(count) + 1;
  if ($var(count) == LAST) { evapi_relay("$var(count)"); }
}
event_route[evapi:connection-closed] { evapi_relay("$var(count)"); }
"""
ECHO_SCRIPT = """
event_route["evapi:message-received"] = function(evapi) evapi.relay(evapi.msg) end
"""
RUNAWAY_SCRIPT = """
event_route["evapi:message-received"] = function(evapi) while true do end end
"""
HOOK_TIMEOUT = 0.05  # seconds: the default of hook.timeout


@dataclasses.dataclass
class Settings:
    programs: pathlib.Path  # folder of bench-load, bench-messages, bare-sender …
    binary: pathlib.Path    # evrelay
    folder: pathlib.Path    # for sockets and configuration
    cells: list             # (size, subscribers)
    latency: tuple          # (subscribers, events a second)
    hook_latency: tuple     # the same, through a hook
    runs: int
    seconds: float
    idle_connections: int   # for the memory of one
    idle_subscribers: int   # for the processor time of all
    check_all: bool         # compare every byte received

    def evrelay(self, *slow_subscriber, **options):
        return Evrelay(self.binary, self.folder, *slow_subscriber, **options)

    def warmup(self, seconds):
        return min(0.5, seconds / 4)

    def run(self, server, subscribers, seconds=None, **options):
        seconds = self.seconds if seconds is None else seconds
        return run(self.programs, server, subscribers, seconds=seconds,
                   warmup=self.warmup(seconds), check_all=self.check_all, **options)


def median(results, key):
    return statistics.median(result[key] for result in results)


def cpu_per_million(results):
    return statistics.median(
        result["server_cpu_s"] / max(1, result["deliveries"]) * 1e6 for result in results)


def most_disturbed(results):
    """The largest share of the machine that others took in any of the runs."""
    return max(result["others_cpu_share"] for runs in results.values() for result in runs)


def latencies(results):
    """{name: results} → {"name_p50_us": median, …}."""
    return {f"{name}_{point}_us": statistics.median(run["latency_us"][point] for run in runs)
            for name, runs in results.items() for point in POINTS}


def alternate(runs, variants):
    """{name: function} → {name: results}."""
    results = {name: [] for name in variants}
    for _ in range(runs):
        for name, function in variants.items():
            results[name].append(function())
    return results


def throughput(settings):
    """Deliveries a second, and what they cost, against the bare sender."""
    cells = []
    for size, subscribers in settings.cells:
        def relay(size=size, subscribers=subscribers):
            return settings.run(settings.evrelay(), subscribers, size=size)

        def bare(send, size=size, subscribers=subscribers):
            server = BareSender(settings.programs, subscribers, size, send)
            return settings.run(server, subscribers, size=size)

        results = alternate(settings.runs, {"evrelay": relay} | {
            send: lambda send=send: bare(send) for send in SENDS})
        best = max(SENDS, key=lambda send: median(results[send], "rate"))
        ours, theirs = results["evrelay"], results[best]
        cells.append({
            "size": size,
            "subscribers": subscribers,
            "rate": median(ours, "rate"),
            "bare_rate": median(theirs, "rate"),
            "bare_send": best,
            "ratio": median(ours, "rate") / median(theirs, "rate"),
            "cpu_per_million": cpu_per_million(ours),
            "bare_cpu_per_million": cpu_per_million(theirs),
            "cpu_ratio": cpu_per_million(ours) / cpu_per_million(theirs),
            "growth_bytes": max(result["growth_bytes"] for result in ours),
            "others_cpu_share": most_disturbed(results),
            "runs": {str(name): runs for name, runs in results.items()},
        })
    return cells


def latency(settings):
    """From the time an event is due to each of its deliveries, against the bare relay."""
    cells = []
    for subscribers, rate in settings.latency:
        options = {"size": 64, "rate": rate, "seconds": settings.seconds * 1.5}

        def relay(subscribers=subscribers, options=options):
            return settings.run(settings.evrelay(), subscribers, **options)

        def bare(subscribers=subscribers, options=options):
            server = BareRelay(settings.programs, settings.folder, subscribers)
            return settings.run(server, subscribers, **options)

        results = alternate(settings.runs, {"evrelay": relay, "bare": bare})
        cell = {"subscribers": subscribers, "rate": rate} | latencies(results)
        cell["ratio"] = cell["evrelay_p50_us"] / cell["bare_p50_us"]
        cell["others_cpu_share"] = most_disturbed(results)
        cell["runs"] = results
        cells.append(cell)
    return cells


def requests(settings):
    """The same events as data frames and as pipelined `relay` requests."""
    cells = []
    for subscribers in (1, 10):
        def relay(subscribers=subscribers, **options):
            return settings.run(settings.evrelay(), subscribers, size=64, **options)

        results = alternate(settings.runs, {
            "data": relay, "requests": lambda relay=relay: relay(dialect="requests")})
        rates = {name: median(runs, "rate") for name, runs in results.items()}
        cells.append({
            "size": 64, "subscribers": subscribers, "data_rate": rates["data"],
            "requests_rate": rates["requests"], "ratio": rates["requests"] / rates["data"],
            "others_cpu_share": most_disturbed(results), "runs": results})
    return cells


def stalled(settings):
    """One of 50 subscribers never reads. The producer stays 4 MiB at most ahead of the others."""
    subscribers, size, max_lag = 50, 1024, 8 * 2**20

    def relay(policy, count):
        server = settings.evrelay(f"{{policy: {policy}, max_lag: 8MiB}}")
        result = settings.run(server, subscribers, size=size, window=max_lag // 2, stalled=count)
        result["rate_each"] = result["rate"] / (subscribers - count)
        return result

    results = alternate(settings.runs, {
        "none": lambda: relay("skip", 0),
        "skip": lambda: relay("skip", 1),
        "disconnect": lambda: relay("disconnect", 1)})
    growth = {name: median(runs, "growth_bytes") for name, runs in results.items()}
    rates = {name: median(runs, "rate_each") for name, runs in results.items()}
    return {"subscribers": subscribers, "size": size, "max_lag": max_lag,
            "rate_each": rates, "growth_bytes": growth,
            "others_cpu_share": most_disturbed(results), "runs": results}


def memory(settings):
    """Resident memory of one idle connection."""
    count = settings.idle_connections
    server = settings.evrelay()
    with server:
        before = server.child.memory("VmRSS")
        with Load(settings.programs, server, subscribers=count, hold=True):
            server.await_subscribers(count)
            grown = server.child.memory("VmRSS") - before
    return {"connections": count, "bytes_each": grown / count}


def idle(settings):
    """Processor time and wake-ups of subscribers that nothing is sent to."""
    count, seconds = settings.idle_subscribers, settings.seconds * 10
    server = settings.evrelay()
    with server:
        with Load(settings.programs, server, subscribers=count, hold=True):
            server.await_subscribers(count)
            begin = time.monotonic()
            cpu, wake_ups = server.child.cpu_seconds(), server.child.wake_ups()
            server.child.stay_alive(seconds)
            elapsed = time.monotonic() - begin
            cpu = server.child.cpu_seconds() - cpu
            wake_ups = server.child.wake_ups() - wake_ups
    return {"subscribers": count, "seconds": elapsed, "cpu_share": cpu / elapsed,
            "wake_ups_per_second": wake_ups / elapsed}


def hook(settings):
    """Messages a second through a hook that counts them, against Kamailio's event route."""
    size = 64
    last = {name: str(int(settings.seconds * count)) for name, count in MESSAGES.items()}
    rival = Kamailio(settings.folder, routes=COUNTING_ROUTES.replace("LAST", last["kamailio"]))
    missing = rival.missing()

    def relay(subscribers):
        server = settings.evrelay(script=COUNTING_SCRIPT.replace("LAST", last["evrelay"]))
        result = run_messages(settings.programs, server, subscribers, size)
        if result["counted"] != result["sent"]:
            raise BenchError(f"evrelay: {result['sent']} messages were sent, the hook counted "
                             f"{result['counted']}")
        return result

    cells = []
    for subscribers in (1, 16):
        variants = {"evrelay": lambda subscribers=subscribers: relay(subscribers)}
        if missing is None:
            variants["kamailio"] = lambda subscribers=subscribers: run_messages(
                settings.programs, rival, subscribers, size)
        results = alternate(settings.runs, variants)
        cell = {"size": size, "subscribers": subscribers,
                "rate": median(results["evrelay"], "rate")}
        if missing is None:
            theirs = results["kamailio"]
            cell["kamailio_rate"] = median(theirs, "rate")
            cell["kamailio_lost"] = statistics.median(
                1 - result["counted"] / result["sent"] for result in theirs)
            cell["ratio"] = cell["rate"] / cell["kamailio_rate"]
        cell["others_cpu_share"] = most_disturbed(results)
        cell["runs"] = results
        cells.append(cell)
    return {"kamailio": f"kamailio {rival.version()}" if missing is None else None,
            "missing": missing, "cells": cells}


def hook_latency(settings):
    """From the time a message is due, through the hook, to each delivery; against plain events."""
    cells = []
    for subscribers, rate in settings.hook_latency:
        def relay(subscribers=subscribers, rate=rate, **options):
            server = settings.evrelay(script=ECHO_SCRIPT)
            return settings.run(server, subscribers, size=64, rate=rate, **options)

        results = alternate(settings.runs, {
            "hook": lambda relay=relay: relay(messages=True), "relay": relay})
        cell = {"subscribers": subscribers, "rate": rate} | latencies(results)
        cell["ratio"] = cell["hook_p50_us"] / cell["relay_p50_us"]
        cell["others_cpu_share"] = most_disturbed(results)
        cell["runs"] = results
        cells.append(cell)
    return cells


def runaway(settings):
    """Latency while hooks that never end keep a worker busy; and while another process does.

    The second tells what it costs when a core is gone, as it is for both.
    """
    subscribers, rate = 10, 1000
    loops = math.ceil((settings.warmup(settings.seconds) + settings.seconds) / HOOK_TIMEOUT)

    def relay(**options):
        server = settings.evrelay(script=RUNAWAY_SCRIPT, workers=2, complains=True)
        return settings.run(server, subscribers, size=64, rate=rate, **options)

    def beside_hook():
        result = relay(talk=loops)
        if result["hook_timeouts"] != loops:
            raise BenchError(f"evrelay: stopped {result['hook_timeouts']} hooks of {loops}")
        return result

    def beside_process():
        with Burner() as burner:
            return relay(beside=[burner.child])

    results = alternate(settings.runs, {
        "alone": relay, "hook": beside_hook, "process": beside_process})
    return {"subscribers": subscribers, "rate": rate, "loops": loops,
            "cpu_each_ms": median(results["hook"], "hook_cpu_s") / loops * 1e3,
            "others_cpu_share": most_disturbed(results), "runs": results} | latencies(results)


PARTS = {"throughput": throughput, "latency": latency, "requests": requests, "stalled": stalled,
         "memory": memory, "idle": idle, "hook": hook, "hook-latency": hook_latency,
         "runaway": runaway}
