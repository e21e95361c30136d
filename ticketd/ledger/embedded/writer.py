"""Owns the thread that writes to the disk, so that the loop never waits for it. Knows nothing of SQLite."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from ticketd.deadline import Deadline
from ticketd.ledger.base import LedgerFailedError

# When a suspended machine resumes, a deadline may have passed although the disk had no time. It gets this much more.
EXTENSION_SECONDS = 1.0

Work = Callable[[], None]
Done = Callable[[Exception | None], None]


class Writer:
    """Does one piece of work at a time. Each may take ``seconds_max`` and EXTENSION_SECONDS."""

    def __init__(self, seconds_max: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds_max = seconds_max
        self._jobs: SimpleQueue[tuple[Work, Done] | None] = SimpleQueue()
        self._deadline = Deadline(self._deadline_passed)
        self._done: Done | None = None
        self._extended = False
        # A daemon thread, so that the process can end although the disk hangs.
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether the thread is working."""
        return self._done is not None

    def start(self, work: Work, done: Done) -> None:
        """Do the work in the thread. The loop then calls ``done`` with the exception that it raised, or None.

        If the time passes first, ``done`` gets LedgerFailedError. Must not be called while busy.
        """
        assert self._done is None
        self._done, self._extended = done, False
        self._deadline.set(self._loop.time() + self._seconds_max)
        self._jobs.put((work, done))

    async def finish(self, work: Work) -> None:
        """Do the last piece of work and wait for it. Raises its exception, or LedgerFailedError if it is late."""
        ended: asyncio.Future[Exception | None] = self._loop.create_future()
        self.start(work, ended.set_result)
        if error := await ended:
            raise error

    def close(self) -> None:
        """Let the thread end after its work."""
        self._deadline.close()
        self._jobs.put(None)

    def _deadline_passed(self) -> None:
        if self._done is None:
            return
        if not self._extended:
            self._extended = True
            self._deadline.set(self._loop.time() + EXTENSION_SECONDS)
            return
        self._end(self._done, LedgerFailedError(f"the disk did not answer within {self._seconds_max:g} s"))

    def _end(self, done: Done, error: Exception | None) -> None:
        # After a deadline, the result of the thread comes too late and is dropped.
        if done is self._done:
            self._done = None
            self._deadline.clear()
            done(error)

    def _run(self) -> None:
        while job := self._jobs.get():
            work, done = job
            error: Exception | None = None
            try:
                work()
            except Exception as raised:
                error = raised
            # Raised if the loop is closed.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._end, done, error)
            del job, work, done, error
