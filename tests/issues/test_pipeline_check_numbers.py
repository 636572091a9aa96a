"""`Pipeline.check()` used to print `nan` for no time without end."""

import math

import pytest

from resilient import Pipeline, bulkhead, retry, timeout

ENDLESS = {"max_attempts": None, "base_delay": 0, "max_delay": 0}


@pytest.mark.parametrize(
    "make",
    [
        lambda: [retry(**ENDLESS), timeout(0)],
        lambda: [timeout(0), retry(**ENDLESS)],
        lambda: [bulkhead(), retry(**ENDLESS), timeout(1)],
        lambda: [bulkhead(), retry(**ENDLESS), timeout(0)],
        lambda: [retry(**ENDLESS), bulkhead(max_wait=0), timeout(0)],
        lambda: [retry(**ENDLESS, retry_exhausted=True), retry(**ENDLESS), timeout(0)],
        lambda: [retry(**ENDLESS, max_elapsed=0), timeout(0)],
        lambda: [retry(max_attempts=None, max_delay=0.1), timeout(0)],
    ],
)
def test_endless_attempts_of_no_time(make):
    """Attempts without end that take no time give findings whose numbers are numbers or None."""
    findings = Pipeline(*make()).check()
    assert findings
    for finding in findings:
        assert "nan" not in str(finding)
        assert not any(math.isnan(number) for number in finding.numbers.values() if number is not None)
