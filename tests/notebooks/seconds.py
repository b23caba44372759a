"""A pytest plugin (``-p tests.notebooks.seconds``): how long each chapter takes, with a limit.

Time never fails a test; a chapter over the limit is reported where nobody overlooks it.
"""

import os
from collections import defaultdict

LIMIT = 60  # seconds a chapter may take under the profile cpu, on two idle cores

_seconds: dict[str, float] = defaultdict(float)


def pytest_runtest_logreport(report):
    _seconds[report.nodeid.split("::")[0]] += report.duration


def pytest_terminal_summary(terminalreporter):
    limited = os.environ.get("SEGLAB_PROFILE") == "cpu"
    for chapter, seconds in _seconds.items():
        slow = limited and seconds > LIMIT
        terminalreporter.write_line(
            f"{'warning: ' * slow}{chapter}: {seconds:.0f} s{f', more than {LIMIT} s' * slow}",
            yellow=slow,
        )
