#!/usr/bin/env python3
"""How evrelay grows, and who pays for whom: see README.md beside this file.

Needs a release build with tests and TLS. Writes BUILD/bench/growth.json and plots, prints tables.
Exit code 1: a run was wrong (an event lost, altered, out of order; a server that failed).
"""

import argparse
import json
import pathlib
import sys
import tempfile

import checker
import fairness
import forger
import growth_parts
import growth_report
import machine
import markdown
import servers
import tree
from arguments import some_of

COUNTS = (1, 10, 100, 1000, 10000, 19000)
PARTS = {"delivery": growth_parts.delivery, "single": growth_parts.single,
         "batching": growth_parts.batching, "crowd": growth_parts.crowd,
         "tls": growth_parts.over_tls, "fairness": fairness.fairness,
         "tree": tree.tree}
PROGRAMS = ("bench-load", "bench-crowd", "bench-fair", "bare-sender", "bare-relay")


def parse_arguments():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(prog="./dev bench growth",
                                     description="Measures what many subscribers cost evrelay.")
    parser.add_argument("--build", type=pathlib.Path, default=root / "build/release",
                        help="build folder (default: build/release)")
    parser.add_argument("--smoke", action="store_true",
                        help="every part once and small, in less than 20 s: does it work at all?")
    parser.add_argument("--parts", type=some_of(PARTS), default=list(PARTS),
                        help="only these, separated by commas: " + ", ".join(PARTS))
    parser.add_argument("--runs", type=int, default=3, help="runs of each figure (default: 3)")
    parser.add_argument("--seconds", type=float, default=2.0,
                        help="length of a run (default: 2); twice as long above 1,000 subscribers")
    parser.add_argument("--results", type=pathlib.Path, metavar="FILE",
                        help="also replace the tables in FILE, as tests/bench/SCALING.md")
    return parser.parse_args()


def settings_of(arguments, folder):
    settings = growth_parts.Settings(
        programs=arguments.build / "tests/bench", binary=arguments.build / "src/evrelay",
        folder=pathlib.Path(folder), counts=list(COUNTS), batching=1000, tls_counts=[10, 100],
        idle=9990, runs=arguments.runs, seconds=arguments.seconds, check_all=False)
    if arguments.smoke:
        settings.counts = [1, 50]
        settings.batching = 50
        settings.tls_counts = [10]
        settings.idle = 90
        settings.runs = 1
        settings.seconds = 0.1
        settings.check_all = True
    return settings


def leave_out_impossible(settings):
    most = growth_parts.most_subscribers()
    for count in settings.counts:
        if count > most:
            print(f"not measured: {count} subscribers, as a process may have {most + 100} files "
                  "(ulimit -Hn)")
    settings.counts = [count for count in settings.counts if count <= most]
    settings.idle = min(settings.idle, most - 10)


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="evrelay-growth-") as folder:
        settings = settings_of(arguments, folder)
        leave_out_impossible(settings)
        for program in (settings.binary, *(settings.programs / name for name in PROGRAMS)):
            if not program.exists():
                sys.exit(f"{program}: not there; build first, with tests and TLS, or name the "
                         "build with --build")
        results = machine.describe(settings.binary) | {
            "runs": settings.runs, "seconds": settings.seconds}
        try:
            checker.check(settings.programs)
            forger.check(settings.programs, settings.folder)
            for name in arguments.parts:
                print(f"{name} …", file=sys.stderr, flush=True)
                results[name] = PARTS[name](settings)
        except servers.BenchError as error:
            sys.exit(f"bench: {error}")

    out = arguments.build / "bench"
    out.mkdir(exist_ok=True)
    (out / "growth.json").write_text(json.dumps(results, indent=1) + "\n")
    tables = growth_report.tables(results)
    print("\n\n".join(tables.values()))
    growth_report.plot(results, out / "growth", ("svg", "png"))
    if arguments.results:
        markdown.replace_tables(arguments.results, tables)
        growth_report.plot(results, arguments.results.with_suffix(""), ("svg",))
    print(f"written: {out}/growth.json and plots")


if __name__ == "__main__":
    main()
