"""Owns the thread that writes to the database, and how long it may take. Knows nothing of SQLite."""

from collections.abc import Callable
from typing import Any

from ticketd.deadline import Deadline
from ticketd.disk_thread import DiskThread, Done
from ticketd.ledger.base import LedgerFailedError

# When a suspended machine resumes, a deadline may have passed although the disk had no time. It gets this much more.
EXTENSION_SECONDS = 1.0


class Writer(DiskThread):
    """Does one piece of work at a time. Each may take ``seconds_max`` and EXTENSION_SECONDS."""

    def __init__(self, seconds_max: float) -> None:
        super().__init__("ledger-writer")
        self._seconds_max = seconds_max
        self._deadline = Deadline(self._deadline_passed)
        self._done: Done | None = None
        self._extended = False

    @property
    def busy(self) -> bool:
        """Whether the thread is working."""
        return self._done is not None

    def start(self, work: Callable[[], Any], done: Done) -> None:
        """See DiskThread. If the time passes first, the outcome is LedgerFailedError. Must not be called while busy."""
        assert self._done is None
        self._done, self._extended = done, False
        self._deadline.set(self._loop.time() + self._seconds_max)
        self._jobs.put((work, done))

    def close(self) -> None:
        """See DiskThread."""
        self._deadline.close()
        super().close()

    def _end(self, done: Done, outcome: Any) -> None:
        # After a deadline, the result of the thread comes too late and is dropped.
        if done is self._done:
            self._done = None
            self._deadline.clear()
            done(outcome)

    def _deadline_passed(self) -> None:
        assert self._done
        if self._extended:
            self._end(self._done, LedgerFailedError(f"the disk did not answer within {self._seconds_max:g} s"))
        else:
            self._extended = True
            self._deadline.set(self._loop.time() + EXTENSION_SECONDS)
