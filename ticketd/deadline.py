"""A deadline that is moved often and passes rarely."""

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls ``passed`` once when the time set last has come, unless it was cleared.

    Moving it later costs an assignment: the timer that fires early is set again. So a client that is always in time
    never touches the timers of the loop.
    """

    def __init__(self, passed: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._passed = passed
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Let it pass at this time of the loop's clock, in seconds."""
        self._at = at
        if self._timer is None or self._timer.when() > at:
            self._set_timer(at)

    def clear(self) -> None:
        """Let it not pass."""
        self._at = None

    def close(self) -> None:
        """Clear it for good, and forget whom to call, who knows it."""
        self._at = None
        self._passed = _nobody
        if self._timer:
            self._timer.cancel()

    def _set_timer(self, at: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._at is None:
            return
        # The clock of the loop may be a little coarser than the timer.
        if self._loop.time() < self._at:
            self._set_timer(self._at)
        else:
            self._at = None
            self._passed()


def _nobody() -> None: ...
