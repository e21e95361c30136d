"""Ends a wait when its time is over, or when nobody reads stdout any more."""

import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from io import UnsupportedOperation
from typing import TypeVar

T = TypeVar("T")

# How often it is looked whether the time is over, or the reader gone.
LOOK_SECONDS = 0.1


class OverError(Exception):
    """It has lasted for long enough."""


class ReaderGoneError(OverError):
    """Nobody reads what is written, as in `ticketctl watch | head -1`."""


class Interrupter:
    """Ends waits after so many seconds in all, or when the reader of stdout has gone.

    A signal does that, so they may wait for anything. What is written between two waits is written whole. For the main
    thread, and one of them at a time.
    """

    def __init__(self, seconds: float | None) -> None:
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._waiting = False
        self._stdout = select.poll()
        # What stands in for stdout may have no descriptor. Without any event to wait for, poll tells of errors only.
        with suppress(UnsupportedOperation):
            self._stdout.register(sys.stdout.fileno(), 0)

    def __enter__(self) -> "Interrupter":
        self._before = signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)

    def wait(self, wait: Callable[[], T]) -> T:
        """Return what a function returns that waits for something. Raises OverError or ReaderGoneError."""
        self._waiting = True
        try:
            return wait()
        finally:
            self._waiting = False

    def _look(self, *_: object) -> None:
        if self._waiting and self._deadline is not None and time.monotonic() >= self._deadline:
            raise OverError
        if self._waiting and self._stdout.poll(0):
            raise ReaderGoneError
