"""A deadline that is moved often and rarely passes."""

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls ``callback`` once when the time that was set last has passed, unless it is disarmed before.

    Setting a later time costs one assignment: the timer fires at the earlier time and is set again then. So a client
    that is always on time hardly touches the timers of the loop.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._callback = callback
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        # When the timer fires.
        self._timer_at = math.inf

    def set(self, at: float) -> None:
        """Arm it for this time of the loop's clock, in seconds."""
        self._at = at
        if at < self._timer_at:
            self._set_timer(at)

    def clear(self) -> None:
        """Disarm it."""
        self._at = None

    def close(self) -> None:
        """Disarm it for good, and drop the callback, which breaks the reference cycle with its owner."""
        self._at = None
        self._callback = _do_nothing
        if self._timer:
            self._timer.cancel()
        self._timer_at = math.inf

    def _set_timer(self, at: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._fire)
        self._timer_at = at

    def _fire(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if self._at is None:
            return
        # The deadline may have been moved, and a timer may fire a little early.
        if self._loop.time() < self._at:
            self._set_timer(self._at)
        else:
            self._at = None
            self._callback()


def _do_nothing() -> None: ...
