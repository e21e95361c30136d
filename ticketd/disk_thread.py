"""Owns a thread that waits for the disk, or for whatever else may hang, so that the loop never does. That does not keep
the process from ending."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

# Called with what a piece of work returned, or with the exception that it raised.
Done = Callable[[Any], None]


class DiskThread:
    """A thread that does one piece of work after the other. Called on the loop."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Done] | None] = SimpleQueue()
        # ``daemon``: when the process ends, it does not wait for the thread.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def start(self, work: Callable[[], Any], done: Done) -> None:
        """Do the work. The loop then calls ``done`` with what it returned, or with the exception that it raised."""
        self._jobs.put((work, done))

    def do(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do the work, and return a future of what it returns or raises. Cancelling that does not stop the work."""
        result: asyncio.Future[T] = self._loop.create_future()
        self.start(work, partial(_settle, result))
        return result

    def close(self) -> None:
        """Let the thread end after all work that was started. Does not wait for that."""
        self._jobs.put(None)

    def _end(self, done: Done, outcome: Any) -> None:
        """End a piece of work. Called on the loop."""
        done(outcome)

    def _run(self) -> None:
        while job := self._jobs.get():
            work, done = job
            try:
                outcome = work()
            except Exception as error:
                outcome = error
            # RuntimeError is raised if the loop is closed.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._end, done, outcome)
            # Nothing of it stays in memory while the thread waits.
            del job, work, done, outcome


def _settle(result: asyncio.Future[T], outcome: T | Exception) -> None:
    if result.done():
        # It was cancelled.
        return
    if isinstance(outcome, Exception):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)
