"""What stands on a terminal at last, rather than the bytes that were sent to it."""

import re
import time
from collections.abc import Callable
from typing import Any

import pexpect
import pyte

from tests.conftest import SECONDS_MAX

# What pyte does not know: the screen for programs on the whole terminal, and the question where the cursor is.
_UNKNOWN = re.compile(r"(\x1b\[\?1049[hl]|\x1b\[6n)")


class Screen:
    """The screen of what ``terminal`` runs, with so many rows and columns."""

    def __init__(self, child: Any, size: tuple[int, int]) -> None:
        self._child = child
        self._size = size
        self._usual = self._new()
        self._shown = self._usual

    def lines(self) -> list[str]:
        """Return the lines that are not blank, from the top."""
        return [line.rstrip() for line in self._shown[0].display if line.strip()]

    def until(self, condition: Callable[[list[str]], object]) -> list[str]:
        """Wait until the lines on the screen fulfil a condition, and return them."""
        deadline = time.monotonic() + SECONDS_MAX
        while not condition(self.lines()):
            assert time.monotonic() < deadline, "\n".join(self.lines())
            try:
                self._feed(self._child.read_nonblocking(65_536, 0.1))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert condition(self.lines()), "\n".join(self.lines())
                break
        return self.lines()

    def until_text(self, text: str) -> list[str]:
        """Wait until a text stands somewhere on the screen, and return its lines."""
        return self.until(lambda lines: any(text in line for line in lines))

    def ended(self) -> list[str]:
        """Wait for the end of what runs, and return the lines that it leaves on the screen."""
        self._feed(self._child.read())
        self._child.wait()
        return self.lines()

    def _new(self) -> tuple[Any, Any]:
        rows, columns = self._size
        screen = pyte.Screen(columns, rows)
        return screen, pyte.Stream(screen)

    def _feed(self, text: str) -> None:
        for part in _UNKNOWN.split(text):
            if part == "\x1b[?1049h":
                self._shown = self._new()
            elif part == "\x1b[?1049l":
                self._shown = self._usual
            elif part == "\x1b[6n":
                cursor = self._shown[0].cursor
                self._child.send(f"\x1b[{cursor.y + 1};{cursor.x + 1}R")
            else:
                self._shown[1].feed(part)
