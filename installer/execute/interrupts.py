"""A lost terminal and a polite kill, ended like Ctrl-C: in order."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class EndedError(KeyboardInterrupt):
    """Like Ctrl-C, but nobody pressed it: the terminal is lost, or somebody ended the program. What others do for it goes on."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let a hang-up and a polite kill end us like Ctrl-C does: programs ended, terminal as it was, nothing left in /tmp.
    What is ignored stays ignored (nohup(1)). Once is enough: whoever asks again meanwhile does not interrupt the ending.
    """

    ending = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal ending
        if not ending:  # and not SIG_IGN, which programs that are started for the ending would inherit
            ending = True
            raise EndedError

    numbers = (
        (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    )
    heeded = [each for each in numbers if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
