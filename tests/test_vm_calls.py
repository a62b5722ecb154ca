"""Calls of libvirt that do not come back: how many are left behind before the next is refused at once."""

import asyncio
import threading
import time

import pytest

from hv.daemon.problems import RefusedError
from hv.daemon.virt import MOST_LEFT_OF_ONE, Calls

PATIENCE = 30.0
"""Seconds for threads to end on a busy machine."""


def test_who_asks_again_for_a_guest_that_hangs_takes_no_more_threads() -> None:
    calls, go_on, begun = Calls(), threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        go_on.wait(PATIENCE)

    async def ask(what: str) -> str:
        try:
            await calls.run(what, hang, 0.05)
        except RefusedError as error:
            return error.why
        return ""

    async def all_of_them() -> None:
        for _ in range(MOST_LEFT_OF_ONE):
            assert "has not answered within" in await ask("looking at one")
        assert "calls before have not come back" in await ask("looking at one")
        assert "has not answered within" in await ask("looking at another")
        assert await calls.run("listing", lambda: 7) == 7
        go_on.set()
        end = time.monotonic() + PATIENCE
        while calls._left and time.monotonic() < end:
            await asyncio.sleep(0.01)
        assert await calls.run("looking at one", lambda: 8) == 8

    asyncio.run(all_of_them())
    taken = sum(begun.acquire(blocking=False) for _ in range(10))
    assert taken == MOST_LEFT_OF_ONE + 1, "the refused one began no thread"


def test_a_call_that_comes_back_at_its_deadline_is_not_counted_as_left() -> None:
    calls = Calls()

    async def race() -> None:
        for _ in range(200):
            with pytest.raises(RefusedError):
                await calls.run("looking at one", lambda: time.sleep(0.002), 0.0)
            end = time.monotonic() + PATIENCE
            while calls._left and time.monotonic() < end:
                await asyncio.sleep(0.001)
            assert not calls._left

    asyncio.run(race())
