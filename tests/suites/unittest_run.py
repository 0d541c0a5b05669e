"""Runs modules of CPython's test suite; one line for each case, "ok CASE", "fail CASE" or "skip CASE", in a file.

usage: unittest_run.py RESULTS MODULE_OR_CASE...

Nothing that a suite guards as a resource is run (no network beyond this machine, no processor hog), but test_socketserver:
its network is this machine.
"""
import faulthandler
import os
import sys
import tempfile
import unittest

from test import support

support.use_resources = ["network"] if sys.argv[2].startswith("test_socketserver") else []
support.verbose = False
results = open(sys.argv[1], "w", buffering=1)


class Result(unittest.TextTestResult):
    def tell(self, status, case):
        print(status, case.id() if isinstance(case, unittest.TestCase) else str(case).split()[-1].strip("()"),
              file=results)

    def startTest(self, test):
        super().startTest(test)
        self.bad = False
        print("#", test.id(), file=sys.stderr, flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.tell("ok", test)

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.tell("ok", test)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.tell("fail", test)

    def addError(self, test, err):
        super().addError(test, err)
        self.tell("fail", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.tell("fail", test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self.tell("fail", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.tell("skip", test)


def cases(suite):
    """All but those of AF_VSOCK: where there is such a thing, there is rarely somebody who answers."""
    for case in suite:
        if isinstance(case, unittest.TestSuite):
            yield from cases(case)
        else:
            yield case


faulthandler.enable()
directory = tempfile.mkdtemp(dir=os.path.dirname(os.path.abspath(sys.argv[1])))
os.chdir(directory)
suite = unittest.defaultTestLoader.loadTestsFromNames("test." + name for name in sys.argv[2:])
suite = unittest.TestSuite(case for case in cases(suite) if "VSOCK" not in case.id())
unittest.TextTestRunner(stream=sys.stderr, verbosity=0, resultclass=Result).run(suite)
print("end", file=results)
