"""Runs a Catch2 executable and prints TAP with one line a test case.

usage: catch_tap.py EXECUTABLE [ARGUMENT...]

Catch2's own TAP reporter counts assertions, which says nothing about how much is tested. Its XML
comes case by case, in both major versions. A program that ends without having finished its report
(crash, sanitizer, _exit), or with a failure that no case showed (a leak), has one failed case more.
"""

import subprocess
import sys
import xml.etree.ElementTree as ET

from tap import Tap, stdout_for_tap


def text_of(element):
    return " ".join((element.text or "").split())


def problems_of(case):
    """What failed, as `file:line: original (expanded)`, after the INFOs that stood above it."""
    infos = []
    for element in case.iter():
        place = f"{element.get('filename')}:{element.get('line')}"
        if element.tag == "Info":
            infos.append(f"  {text_of(element)}")
        elif element.tag == "Expression":
            if element.get("success") == "false":
                texts = {child.tag: text_of(child) for child in element}
                yield from infos
                yield f"{place}: {texts.get('Original')} ({texts.get('Expanded')})"
            infos = []
        elif element.tag in ("Exception", "FatalErrorCondition"):
            yield f"{place}: {element.tag}: {text_of(element)}"
        elif element.tag == "Failure":
            yield from infos
            yield f"{place}: {text_of(element)}"
            infos = []


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    tap = Tap(stdout_for_tap())
    parser = ET.XMLPullParser(["start", "end"])
    depth = 0
    running = None
    error = ""

    command = sys.argv[1:] + ["--reporter", "xml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        for line in program.stdout:
            if error:
                continue
            try:
                parser.feed(line)
                for event, element in parser.read_events():
                    depth += 1 if event == "start" else -1
                    if element.tag != "TestCase":
                        continue
                    if event == "start":
                        running = element.get("name")
                        continue
                    ok = element.find("OverallResult").get("success") == "true"
                    tap.case(ok, running, "\n".join(problems_of(element)))
                    running = None
            except ET.ParseError as broken:
                error = f"its report is broken: {broken}"

    # The root element is closed by a program that came to its end; a sanitizer may still object.
    finished = depth == 0 and tap.count > 0 and not error
    if not finished or (program.returncode != 0 and tap.failed == 0):
        tap.case(False, running or "end of the program", f"exit status {program.returncode}. {error}")
    tap.plan(tap.count)
    return 1 if tap.failed else 0


if __name__ == "__main__":
    sys.exit(main())
