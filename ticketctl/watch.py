"""``watch``: shows events as they change, in a live table on a terminal and as JSON lines in a pipe; or one booking.

How the table looks is the business of ``board``, and how a booking looks that of ``booking_view``.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

from msgspec import UNSET, Meta

from ticketctl import booking_view
from ticketctl.client import Client
from ticketctl.following import Following, Shown, View
from ticketctl.output import USAGE, Output
from ticketctl.own import OwnCommand, OwnField
from ticketctl.render import render
from ticketctl.times import Zone
from ticketd.errors import TicketError
from ticketd.model import Id, printable
from ticketd.wire.replies import BookingReply, EventReply, Reply, error_reply
from ticketd.wire.requests import Request, Watch

OnlyEvent = Annotated[Id, Meta(description="only this event", extra={"positional": True, "completes": "events"})]
OnlyBooking = Annotated[
    Id, Meta(description="this booking instead of events, until its end", extra={"completes": "bookings"})
]
Changes = Annotated[
    int, Meta(ge=1, le=1_000_000, description="end after this many changes; the first state of an event is not one")
]
Seconds = Annotated[float, Meta(gt=0, le=31_536_000, description="end after this time")]


class Ends(NamedTuple):
    """When a watch ends by itself: after so many changes, or seconds."""

    changes: int | None = None
    seconds: float | None = None


def run_watch(arguments: Sequence[str], client: Client, output: Output) -> int:
    """Run ``watch`` and return the exit status. Raises BrokenPipeError if its reader has gone."""
    try:
        given = WATCH.parse(arguments)
        request = _request(given.get("event"), given.get("booking"))
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    # It is checked that they are numbers.
    changes = int(float(given["count"])) if "count" in given else None
    seconds = float(given["seconds"]) if "seconds" in given else None
    return follow(request, client, output, Ends(changes, seconds))


def _request(event: str | None, booking: str | None) -> Watch:
    try:
        return Watch(event or UNSET, booking or UNSET)
    except ValueError as error:
        raise TicketError("bad_request", str(error)) from None


WATCH = OwnCommand(
    "watch",
    "Follow the events, one event or one booking, as they change.",
    [
        OwnField("event", OnlyEvent, required=False),
        OwnField("booking", OnlyBooking, required=False),
        OwnField("count", Changes, required=False),
        OwnField("seconds", Seconds, required=False),
    ],
    run_watch,
)


def follow(request: Request, client: Client, output: Output, ends: Ends = Ends()) -> int:  # noqa: B008
    """Show the replies until Ctrl-C, or until it ends. Return the exit status. Raises as ``run_watch`` does."""
    if getattr(request, "booking", None):
        return Following(request, client, output, ends.changes, _is_over).run(
            booking_view.viewing(output), ends.seconds
        )
    return Following(request, client, output, ends.changes).run(_viewing(output), ends.seconds)


def _is_over(shown: Shown) -> bool:
    """Whether a booking can no longer change by itself."""
    return isinstance(shown, BookingReply) and shown.state not in ("waiting", "held")


@contextmanager
def _viewing(output: Output) -> Iterator[View]:
    if output.mode != "table":
        yield _JsonLines(output)
    elif booking_view.is_dumb():
        yield _Lines(output)
    else:
        # Imported here, because it takes longer than most commands.
        from ticketctl.board import live

        with live() as board:
            yield board


class _JsonLines:
    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, reply: Reply) -> None:
        """See View."""
        self._write(render(reply, "json"))

    def say(self, text: str) -> None:
        """See View."""
        self._output.note(text)

    def _write(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class _Lines(_JsonLines):
    """A line for each change, for a terminal on which nothing can be drawn, or a program that reads it aloud."""

    def show(self, reply: Reply) -> None:
        """See View."""
        self._write(_line(reply, self._output.zone) if isinstance(reply, EventReply) else render(reply, "plain"))


def _line(event: EventReply, zone: Zone) -> str:
    _, clock, *_ = zone.show(datetime.now(UTC), seconds=True).split(" ")
    left = f"{event.available} of {event.capacity} available, {event.held} held, {event.sold} sold"
    waiting = f", {event.waiting} waiting" if event.waiting else ""
    return printable(f"{clock} {event.id}: {left}{waiting} ({event.name})")
