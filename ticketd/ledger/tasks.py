"""Runs coroutines whose results go to callbacks."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks:
    """The running coroutines."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # The loop has weak references to its tasks only.
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self, work: Coroutine[Any, Any, T], done: Callable[[T | Exception], None]) -> None:
        """Run the coroutine, then call ``done`` once, with its result or its exception."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._end, done))

    async def wait(self) -> None:
        """Wait until all have ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _end(self, done: Callable[[T | Exception], None], task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            # Only the end of the loop cancels tasks.
            return
        error = task.exception()
        done(error if isinstance(error, Exception) else task.result())
