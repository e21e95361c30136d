"""A thread that waits for the disk, so that the loop need not."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from ticketd.deadline import Deadline
from ticketd.stores.base import LedgerFailedError

T = TypeVar("T")

# A machine that was asleep wakes up with its deadlines passed, and its disk has had no time either.
WAKING_SECONDS = 1.0


class DiskThread:
    """Does one piece of work after the other. What it does may take ``seconds_max``, and WAKING_SECONDS more."""

    def __init__(self, seconds_max: float) -> None:
        self._seconds_max = seconds_max
        self._work: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._deadline: Deadline | None = None
        self._awaited: asyncio.Future[Any] | None = None
        self._waking = False
        # Nobody can wait for a disk that does not answer: the process must be able to end.
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    async def do(self, work: Callable[[], T]) -> T:
        """Return what the work returns, or raise what it raises. Raises LedgerFailedError when the time has passed.

        Not to be called again before it has returned.
        """
        loop = asyncio.get_running_loop()
        if self._deadline is None:
            self._deadline = Deadline(self._deadline_passed)
        done: asyncio.Future[T] = loop.create_future()
        self._awaited, self._waking = done, False
        self._deadline.set(loop.time() + self._seconds_max)
        self._work.put((work, done))
        try:
            return await done
        finally:
            self._deadline.clear()

    def _deadline_passed(self) -> None:
        assert self._deadline
        assert self._awaited
        if not self._waking:
            self._waking = True
            self._deadline.set(asyncio.get_running_loop().time() + WAKING_SECONDS)
        elif not self._awaited.done():
            error = LedgerFailedError(f"the disk did not answer within {self._seconds_max:g} s")
            self._awaited.set_exception(error)

    def close(self) -> None:
        """Let the thread end when its work is done."""
        if self._deadline:
            self._deadline.close()
        self._work.put(None)

    def _run(self) -> None:
        while order := self._work.get():
            work, done = order
            try:
                result = work()
            except BaseException as error:
                settle, value = done.set_exception, error
            else:
                settle, value = done.set_result, result
            # Whoever asked may have given up, and its loop may be closed.
            with suppress(RuntimeError):
                done.get_loop().call_soon_threadsafe(_settle, done, settle, value)
            del order, work, done, settle, value


def _settle(done: asyncio.Future[Any], settle: Callable[[Any], None], value: Any) -> None:
    if not done.done():
        settle(value)
