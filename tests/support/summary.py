"""Adds up what `meson test` reported and prints `N passed, N failed[, N skipped]` as the last line;
before it what failed, with what it said, and the reasons of what was skipped.

usage: summary.py BUILD_FOLDER

The cases of each test program stand in testlog.junit.xml. Whether the program as a whole was well
(it may have crashed, run into its time limit, or reported fewer cases than it planned, after cases
that all passed) stands in testlog.json only: if it was not, and no case says so, that counts as one
failed case. Exit status 1 when anything failed or nothing ran.
"""

import collections
import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ET

WELL = ("OK", "SKIP", "EXPECTEDFAIL")


def cases_by_program(report):
    """Program -> (passed, failed names, skipped). The suite of a program is `project.program`."""
    programs = {}
    for suite in ET.parse(report).getroot():
        name = suite.get("name").partition(".")[2]
        passed, failed, skipped = 0, [], 0
        for case in suite.findall("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                failed.append(case.get("name"))
            elif case.find("skipped") is not None:
                skipped += 1
            else:
                passed += 1
        if name:
            programs[name] = (passed, failed, skipped)
    return programs


def said_of_failures(tap):
    """Failed case, as meson names it -> the comments below it in a TAP stream."""
    said, lines = {}, None
    for line in tap.splitlines():
        if case := re.match(r"(not )?ok (\d+ - [^#]*)", line):
            lines = said.setdefault(case[2].strip(), []) if case[1] else None
        elif lines is not None and line.startswith("#"):
            lines.append(line)
    return said


def skip_reasons(tap):
    """How many cases of a TAP stream were skipped, by reason."""
    return collections.Counter(re.findall(r"^(?:ok \d+|1\.\.0).*?# SKIP ?(.*)", tap, re.MULTILINE))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    logs = pathlib.Path(sys.argv[1]) / "meson-logs"
    try:
        programs = cases_by_program(logs / "testlog.junit.xml")
        runs = [json.loads(line) for line in (logs / "testlog.json").read_text().splitlines()]
    except OSError as error:
        sys.exit(f"no test results: {error}")

    passed, failed, skipped = 0, 0, 0
    for run in runs:
        name, result = run["name"], run["result"]
        good, bad, left_out = programs.get(name, (0, [], 0))
        if result not in WELL and not bad:
            bad = [f"ended with {result}, exit status {run['returncode']}"]
        elif good + len(bad) + left_out == 0:
            if (run["stdout"] or "").startswith("1..0"):
                left_out = 1
            else:
                bad = ["reported no case"]
        for reason, count in skip_reasons(run["stdout"] or "").items():
            print(f"skipped: {name}: {count}: {reason or 'no reason given'}")
        said = said_of_failures(run["stdout"] or "")
        for case in bad:
            print(f"failed: {name}: {case}", *said.get(case, []), sep="\n  ")
        passed += good
        failed += len(bad)
        skipped += left_out

    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
