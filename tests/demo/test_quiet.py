"""Ctrl-C counts once, and the library's log lines stay out of the picture."""

from __future__ import annotations

import logging
import signal
import threading

import pytest

from resilient.demo.quiet import one_interrupt, quiet_logs


def test_the_second_ctrl_c_does_not_disturb_the_clean_up() -> None:
    before = signal.getsignal(signal.SIGINT)
    cleaned_up = []

    def interrupted_twice() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            cleaned_up.append(True)

    with pytest.raises(KeyboardInterrupt), one_interrupt():
        interrupted_twice()
    assert cleaned_up
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with one_interrupt():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_signals_alone() -> None:
    entered = []

    def enter() -> None:
        with one_interrupt():
            entered.append(True)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered


def test_log_lines_come_back_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("resilient.demo")
    handlers = list(logging.getLogger("resilient").handlers)
    with quiet_logs():
        logger.error("not to be seen")
    logger.error("to be seen")
    assert caplog.messages == ["to be seen"]
    assert logging.getLogger("resilient").handlers == handlers
