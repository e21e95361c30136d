"""Shows one booking while it is followed: a single line, redrawn, on a terminal; otherwise a line for each change.

Owns its texts, from long to short, so that one of them fits.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from ticketctl.following import View
from ticketctl.output import Output
from ticketctl.render import render
from ticketctl.sentences import tickets_of
from ticketctl.times import Zone
from ticketd.model import printable
from ticketd.wire.replies import BookingReply, Reply

# Terminals whose cursor cannot be moved.
DUMB = ("", "dumb", "unknown")
# Goes to the beginning of the line, and erases it.
_ERASE = "\r\x1b[K"


def is_dumb() -> bool:
    """Whether nothing can be drawn on the terminal."""
    return os.environ.get("TERM", "") in DUMB


@contextmanager
def viewing(output: Output) -> Iterator[View]:
    """Yield what shows a booking."""
    if output.quiet:
        yield _Quiet(output)
    elif output.mode != "table":
        yield _Lines(output)
    elif is_dumb():
        yield _Sentences(output)
    else:
        line = _DrawnLine(output)
        try:
            yield line
        finally:
            line.end()


class _Quiet:
    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, reply: Reply) -> None:
        """See View."""

    def say(self, text: str) -> None:
        """See View."""
        self._output.note(text)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


class _Lines(_Quiet):
    """For programs: the reply itself, or its columns."""

    def show(self, reply: Reply) -> None:
        """See View."""
        self._write(render(reply, self._output.mode) + "\n")


class _Sentences(_Quiet):
    """A sentence for each change."""

    def show(self, reply: Reply) -> None:
        """See View."""
        self._write(texts(reply, self._output.zone, datetime.now(UTC))[0] + "\n")


class _DrawnLine(_Quiet):
    """One line, which is redrawn until the state changes."""

    def __init__(self, output: Output) -> None:
        super().__init__(output)
        self._state = ""
        self._drawn = ""

    def show(self, reply: Reply) -> None:
        """See View."""
        state = reply.state if isinstance(reply, BookingReply) else ""
        if self._drawn and state != self._state:
            self._write("\n")
        self._state = state
        # A line that reaches the last column may go on in the next row.
        room = shutil.get_terminal_size().columns - 1
        fitting = texts(reply, self._output.zone, datetime.now(UTC))
        self._drawn = next((text for text in fitting if len(text) <= room), fitting[-1][:room])
        self._write(_ERASE + self._drawn)

    def say(self, text: str) -> None:
        """See View."""
        self._write(_ERASE)
        super().say(text)
        self._write(self._drawn)

    def end(self) -> None:
        """End the line that is drawn, so that it stays."""
        if self._drawn:
            self._write("\n")
            self._drawn = ""


def texts(reply: Reply, zone: Zone, now: datetime) -> Sequence[str]:
    """Return texts that say how a booking is at this time, from the longest to the shortest."""
    if not isinstance(reply, BookingReply):
        return [render(reply, "plain")]
    _, clock, *_ = zone.show(now, seconds=True).split(" ")
    what = tickets_of(reply)
    if reply.state == "waiting":
        place = "in line" if reply.position is None else f"number {reply.position:,} in line"
        said = [f"{clock} {reply.id}: {place} for {what}", f"{clock} {place} for {what}", f"{clock} {place}", place]
    else:
        until = f" until {zone.show(reply.expires, seconds=True)}" if reply.expires else ""
        now_is = f"{reply.state}{until}"
        said = [f"{clock} {reply.id}: {what}, {now_is}", f"{clock} {what}, {now_is}", f"{clock} {now_is}", now_is]
    return [printable(text) for text in said]
