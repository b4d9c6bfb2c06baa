"""The first signal lets a result be stored, the second waits for nothing."""

import os
import signal

import pytest

from bench.interrupts import Interrupts


def test_a_signal_interrupts_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    interrupts = Interrupts()
    with pytest.raises(KeyboardInterrupt), interrupts.listening():
        os.kill(os.getpid(), signal.SIGTERM)
    assert interrupts.count == 1
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_first_waits_for_what_is_held() -> None:
    interrupts, stored = Interrupts(), []
    with interrupts.listening():
        with pytest.raises(KeyboardInterrupt), interrupts.held():
            os.kill(os.getpid(), signal.SIGINT)
            stored.append("first")
        with interrupts.held():
            stored.append("second")
    assert stored == ["first", "second"]


def test_the_second_does_not_and_is_the_last_that_is_heard() -> None:
    interrupts, stored = Interrupts(), []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with interrupts.listening(), pytest.raises(KeyboardInterrupt), interrupts.held():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        stored.append("never")
    os.kill(os.getpid(), signal.SIGINT)
    for number, handler in before.items():
        signal.signal(number, handler)
    assert (stored, interrupts.count) == ([], 2)


def test_at_the_end_none_is_heard() -> None:
    interrupts = Interrupts()
    with interrupts.listening():
        interrupts.ignore()
        os.kill(os.getpid(), signal.SIGINT)
    assert interrupts.count == 0
