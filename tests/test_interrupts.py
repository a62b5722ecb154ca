"""A lost terminal and a polite kill: ended once, in order."""

import os
import signal
import subprocess

import pytest

from installer.execute.interrupts import EndedError, ended_by_signals

NUMBERS = (signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("first", NUMBERS)
def test_another_signal_does_not_interrupt_the_ending(first: signal.Signals) -> None:
    """A session that ends sends both; what has begun to end comes to its end."""
    before = [signal.getsignal(number) for number in NUMBERS]
    ended = False
    with pytest.raises(EndedError), ended_by_signals():
        try:
            os.kill(os.getpid(), first)
        finally:
            for number in NUMBERS:
                os.kill(os.getpid(), number)
            ended = True
    assert ended
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_what_is_started_for_the_ending_can_be_ended_itself() -> None:
    """It would not, if it inherited that the signal is ignored."""
    with pytest.raises(EndedError), ended_by_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            with subprocess.Popen(["sleep", "60"]) as sleeper:
                sleeper.terminate()
                status = sleeper.wait(30)
    assert status == -signal.SIGTERM


def test_what_is_ignored_stays_ignored() -> None:
    """nohup(1)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
