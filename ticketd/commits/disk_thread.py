"""Owns a thread that waits for the disk. The daemon can end without it, so a disk that hangs never delays the end."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class DiskThread:
    """A thread that does one piece of work after the other. Called on the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]] = SimpleQueue()
        # A daemon thread: the process does not wait for it when it ends.
        threading.Thread(target=self._run, name="events-file", daemon=True).start()

    def do(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do the work, and return a future of what it returns or raises. Cancelling that does not stop the work."""
        result: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((work, result))
        return result

    def _run(self) -> None:
        while True:
            work, result = self._jobs.get()
            try:
                settle = partial(result.set_result, work())
            except Exception as error:
                settle = partial(result.set_exception, error)
            # RuntimeError is raised if the loop is closed.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_unless_cancelled, result, settle)
            del work, result, settle


def _unless_cancelled(result: asyncio.Future[Any], settle: Callable[[], None]) -> None:
    if not result.done():
        settle()
