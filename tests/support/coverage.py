"""Adds up what the tests reached in a build with clang's source-based coverage.

usage: coverage.py BUILD_FOLDER

Prints lines and branches of every file of src and include, the branches that were never taken of
the files whose branches must all be, and the totals. Exit status 1 below 90 % of the lines.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

LINES_BAR = 90.0
# Codec, log, outbox, table: every branch must be taken both ways.
ALL_BRANCHES = re.compile(
    r"include/evrelay/netstring\.h|src/codec/.*|src/relay/connection_table\..*"
    r"|src/fanout/(broadcast_log|outbox|direct_queue|segment|cursor)\..*"
)


def export(build):
    """llvm-cov's report on all programs of the build together."""
    profile = build / "merged.profdata"
    raw = sorted(str(path) for path in (build / "profiles").glob("*.profraw"))
    subprocess.run(["llvm-profdata-14", "merge", "-o", profile, *raw], check=True)
    programs = [build / "src" / "evrelay"]
    for folder in ("unit", "loop"):
        files = sorted((build / "tests" / folder).iterdir())
        programs += [path for path in files if path.is_file() and os.access(path, os.X_OK)]
    command = ["llvm-cov-14", "export", f"-instr-profile={profile}", str(programs[0])]
    command += [f"-object={path}" for path in programs[1:]]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout)["data"][0]["files"]


def percent(covered, count):
    return 100.0 * covered / count if count else 100.0  # a header without any branch


def branches_of(file, source):
    """(line, column) -> [taken when true, taken when false]; instantiations count together.

    Without the conditions that cannot be otherwise: `while (true)`, and a switch over all
    enumerators, for which clang counts a default that is not there.
    """
    lines = source.read_text(encoding="utf-8").splitlines()
    places = {}
    for line, column, _, _, on_true, on_false, *_ in file["branches"]:
        before, after = lines[line - 1][: column - 1], lines[line - 1][column - 1 :]
        if before.endswith("switch (") or after.startswith("true)"):
            continue
        taken = places.setdefault((line, column), [0, 0])
        taken[0] += on_true
        taken[1] += on_false
    return places


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build = pathlib.Path(sys.argv[1]).resolve()
    root = pathlib.Path(__file__).resolve().parents[2]
    totals = {"lines": [0, 0], "branches": [0, 0]}
    gaps = []
    for file in sorted(export(build), key=lambda file: file["filename"]):
        path = pathlib.Path(file["filename"]).resolve()
        if not path.is_relative_to(root):
            continue
        name = str(path.relative_to(root))
        if not name.startswith(("src/", "include/")):
            continue
        lines, branches = file["summary"]["lines"], file["summary"]["branches"]
        print(
            f"{name:44} lines {percent(lines['covered'], lines['count']):5.1f} %"
            f"   branches {percent(branches['covered'], branches['count']):5.1f} %"
        )
        totals["lines"][0] += lines["covered"]
        totals["lines"][1] += lines["count"]
        if not ALL_BRANCHES.fullmatch(name):
            continue
        for (line, column), taken in sorted(branches_of(file, path).items()):
            totals["branches"][0] += sum(count > 0 for count in taken)
            totals["branches"][1] += 2
            for count, way in zip(taken, ("true", "false")):
                if count == 0:
                    gaps.append(f"{name}:{line}:{column} never {way}")

    if totals["lines"][1] == 0:
        sys.exit("the report names no file of src")
    for gap in gaps:
        print(f"branch {gap}")
    lines = percent(*totals["lines"])
    print(f"lines of src and include: {lines:.1f} % (at least {LINES_BAR:.0f} %)")
    print(f"branches of codec, log, outbox, table: {percent(*totals['branches']):.1f} %")
    return 0 if lines >= LINES_BAR else 1


if __name__ == "__main__":
    sys.exit(main())
