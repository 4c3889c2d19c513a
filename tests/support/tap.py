"""Runs unittest files and prints TAP, so that each test method counts as one case.

usage: tap.py FILE_OR_MODULE...

The tests find `support` (this folder) and their own folder on the import path. What they print goes
to standard error: standard output is TAP alone. Every planned case is reported exactly once; one
that never ran, because its setUpClass or setUpModule failed, is reported as failed.
"""

import os
import sys
import unittest
from unittest.util import strclass


class Tap:
    """Writes one TAP stream: the cases as they end, the plan before or after them."""

    def __init__(self, stream):
        self._stream = stream
        self.count = 0
        self.failed = 0

    def plan(self, count):
        self._write(f"1..{count}")

    def case(self, ok, name, detail="", skip=None):
        """One case. `detail` is for people; `skip` is the reason why it did not run."""
        self.count += 1
        if not ok:
            self.failed += 1
        # '#' would begin a directive.
        name = " ".join(name.replace("#", "no. ").split())
        line = f"{'ok' if ok else 'not ok'} {self.count} - {name}"
        if skip is not None:
            line += f" # SKIP {' '.join(skip.split())}"
        self._write(line)
        self.comment(detail)

    def comment(self, text):
        for line in text.splitlines():
            self._write(f"# {line}")

    def _write(self, line):
        self._stream.write(line + "\n")
        self._stream.flush()


def stdout_for_tap():
    """Standard output as a stream of its own; the process's descriptor 1 becomes standard error."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
    os.dup2(2, 1)
    return stream


def name_of(test):
    return f"{type(test).__qualname__}.{getattr(test, '_testMethodName', test.id())}"


def cases_of(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from cases_of(test)
        else:
            yield test


class TapResult(unittest.TestResult):
    """Reports each case when it ends. Fixtures of classes and modules are not cases: their
    failures and skips decide about the cases that could not run (report_unrun)."""

    def __init__(self, tap):
        super().__init__()
        self._tap = tap
        self._reported = set()
        self._fixture_skips = {}
        self._fixture_errors = {}
        self._problems = []
        self._skip = None
        self._running = False

    def startTest(self, test):
        super().startTest(test)
        self._problems = []
        self._skip = None
        self._running = True

    def stopTest(self, test):
        super().stopTest(test)
        self._running = False
        self._reported.add(id(test))
        skip = None if self._problems else self._skip
        self._tap.case(not self._problems, name_of(test), "\n".join(self._problems), skip)

    def addError(self, test, err):
        text = self._exc_info_to_string(err, test)
        if self._running:
            self._problems.append(text)
        elif str(test).startswith("tearDown"):
            # Its cases have been reported; one more than planned is a failure of the whole file.
            self._tap.case(False, str(test), text)
        else:
            before = self._fixture_errors.get(str(test), "")
            self._fixture_errors[str(test)] = f"{before}{test}\n{text}"

    def addFailure(self, test, err):
        self._problems.append(self._exc_info_to_string(err, test))

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self._problems.append(f"{subtest}\n{self._exc_info_to_string(err, test)}")

    def addUnexpectedSuccess(self, test):
        self._problems.append("a failure was expected")

    def addSkip(self, test, reason):
        if self._running:
            self._skip = reason
        else:
            self._fixture_skips[str(test)] = reason

    def report_unrun(self, cases):
        for test in cases:
            if id(test) in self._reported:
                continue
            cls = type(test)
            skip, error = None, "did not run"
            for fixture in (f"setUpClass ({strclass(cls)})", f"setUpModule ({cls.__module__})"):
                skip = skip or self._fixture_skips.get(fixture)
                # Told once, with the first of its cases.
                error = self._fixture_errors.pop(fixture, error)
            self._tap.case(skip is not None, name_of(test), "" if skip else error, skip)


def load(names):
    tests_folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path.insert(0, tests_folder)
    loader = unittest.TestLoader()
    for name in names:
        if name.endswith(".py"):
            folder, file = os.path.split(os.path.abspath(name))
            sys.path.insert(0, folder)
            name = file.removesuffix(".py")
        yield loader.loadTestsFromName(name)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    stream = stdout_for_tap()
    suite = unittest.TestSuite(load(sys.argv[1:]))
    # TestSuite drops its references to cases that have run; ids must stay unique until the end.
    cases = list(cases_of(suite))
    tap = Tap(stream)
    tap.plan(len(cases))
    result = TapResult(tap)
    suite.run(result)
    result.report_unrun(cases)
    return 1 if tap.failed else 0


if __name__ == "__main__":
    sys.exit(main())
