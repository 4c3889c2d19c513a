#!/usr/bin/env python3
"""The benchmark of evrelay: see README.md beside this file.

Needs a build with tests (`./dev build`). Writes BUILD/bench/bench.json and plots, prints a table.
Exit code 1: a run was wrong (an event lost, altered, out of order; a server that failed).
A missed target is a result, not a failure.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import sys
import tempfile

import checker
import parts
import report
import servers
from arguments import cells, some_of

SIZES = (64, 1024, 16384)
SUBSCRIBERS = (1, 10, 100, 1000)
LATENCY = ((1, 1000), (10, 10000), (1000, 100))  # subscribers, events a second
HOOK_LATENCY = LATENCY[:2]


def parse_arguments():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description="Measures evrelay against the kernel's limit.")
    parser.add_argument("--build", type=pathlib.Path, default=root / "build/release",
                        help="build folder (default: build/release)")
    parser.add_argument("--smoke", action="store_true",
                        help="every part once and small, in less than 30 s: does it work at all?")
    parser.add_argument("--parts", type=some_of(parts.PARTS), default=list(parts.PARTS),
                        help="only these, separated by commas: " + ", ".join(parts.PARTS))
    parser.add_argument("--cells", type=cells,
                        default=[(size, count) for size in SIZES for count in SUBSCRIBERS],
                        help="throughput cells, as 64x100,1024x10 (size x subscribers)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each figure (default: 5)")
    parser.add_argument("--seconds", type=float, default=2.0,
                        help="length of a throughput run (default: 2); others scale with it")
    return parser.parse_args()


def settings_of(arguments, folder):
    settings = parts.Settings(
        programs=arguments.build / "tests/bench", binary=arguments.build / "src/evrelay",
        folder=pathlib.Path(folder), cells=arguments.cells, latency=LATENCY,
        hook_latency=HOOK_LATENCY, runs=arguments.runs, seconds=arguments.seconds,
        idle_connections=10000, idle_subscribers=1000, check_all=False)
    if arguments.smoke:
        settings.cells = [(64, 1), (1024, 10), (16384, 100)]
        settings.latency = settings.hook_latency = ((1, 1000), (10, 1000))
        settings.runs = 1
        settings.seconds = 0.2
        settings.idle_connections = 500
        settings.idle_subscribers = 50
        settings.check_all = True
    return settings


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="evrelay-bench-") as folder:
        settings = settings_of(arguments, folder)
        for program in (settings.binary, settings.programs / "bench-load",
                        settings.programs / "bench-messages"):
            if not program.exists():
                sys.exit(f"{program}: not there; build first, or name the build with --build")
        results = {
            "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release()}",
            "runs": settings.runs,
            "seconds": settings.seconds,
        }
        try:
            checker.check(settings.programs)
            for name in arguments.parts:
                print(f"{name} …", file=sys.stderr, flush=True)
                results[name] = parts.PARTS[name](settings)
        except servers.BenchError as error:
            sys.exit(f"bench: {error}")

    results["targets"] = report.targets(results)
    out = arguments.build / "bench"
    out.mkdir(exist_ok=True)
    (out / "bench.json").write_text(json.dumps(results, indent=1) + "\n")
    print(report.table(results))
    report.plot(results, out)
    print(f"written: {out}/bench.json and plots")


if __name__ == "__main__":
    main()
