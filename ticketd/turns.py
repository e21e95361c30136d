"""The line of the greedy: whoever asks for much at once takes turns, so that others hardly notice."""

import asyncio
from collections import deque
from collections.abc import Callable

# A booking takes a few rounds of the loop from its bytes to its reply; a round without work takes microseconds.
ROUNDS_BETWEEN = 3


class Turns:
    """The line of those who ask for much at once: many requests, long ones, long replies. First come, first served.

    A round of the loop is for the turn of one of them; the ROUNDS_BETWEEN after it are for all others. So whoever asks
    for little waits for a few turns at the most, however many stand here.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._line: deque[Callable[[], None]] = deque()
        self._calling = False

    def wait(self, resume: Callable[[], None]) -> None:
        """Stand in line: ``resume`` is called when the turn has come, and not before this returns."""
        self._line.append(resume)
        if not self._calling:
            self._calling = True
            self._loop.call_soon(self._next, 0)

    def _next(self, rounds: int) -> None:
        if rounds:
            self._loop.call_soon(self._next, rounds - 1)
        elif self._line:
            self._loop.call_soon(self._next, ROUNDS_BETWEEN)
            self._line.popleft()()
        else:
            self._calling = False
