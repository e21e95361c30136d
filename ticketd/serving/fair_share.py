"""Owns the fair share: a queue in which connections with much to do wait for the loop, so that others hardly wait."""

import asyncio
from collections import deque
from collections.abc import Callable

# A booking takes a few rounds of the loop from its bytes to its reply. A round without work takes microseconds.
ROUNDS_BETWEEN = 3


class FairShare:
    """A queue for connections with many requests, long requests or long replies. First come, first served.

    One of them is resumed in a round of the loop, and none in the next ROUNDS_BETWEEN rounds. So a small request on
    another connection waits for few of them, however long the queue is.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Callable[[], None]] = deque()
        self._scheduled = False

    def wait(self, resume: Callable[[], None]) -> None:
        """Join the queue. ``resume`` is called later, when it is first. It must not raise."""
        self._queue.append(resume)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run_round, 0)

    def _run_round(self, rounds_left: int) -> None:
        if rounds_left:
            self._loop.call_soon(self._run_round, rounds_left - 1)
        elif self._queue:
            self._loop.call_soon(self._run_round, ROUNDS_BETWEEN)
            self._queue.popleft()()
        else:
            self._scheduled = False
