"""``report``: what was sold, held, cancelled and redeemed of an event, hour by hour.

Counts tickets from the pages of its bookings, one page at a time. Draws bars on a terminal, and writes CSV in a pipe.
"""

import csv
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from ticketctl import pages
from ticketctl.client import CannotConnectError, Client
from ticketctl.output import CANNOT_CONNECT, DONE, USAGE, Output, status_of, write_text
from ticketctl.own import OwnCommand, OwnField
from ticketd.errors import TicketError
from ticketd.model import Id, printable
from ticketd.wire.replies import BookingRecord, EventReply, error_reply
from ticketd.wire.requests import Bookings, Show

Count = Literal["sold", "held", "cancelled", "redeemed"]

OfEvent = Annotated[Id, Meta(description="the id of the event", extra={"completes": "events"})]


class Hour(Struct):
    """How many tickets were sold, held, cancelled and redeemed in the hour that begins then, in UTC."""

    hour: datetime
    sold: int = 0
    held: int = 0
    cancelled: int = 0
    redeemed: int = 0


class Report(Struct, tag_field="reply", tag="report"):
    """The hours of an event in which there was something, and how many tickets in all."""

    event: str
    hours: list[Hour]
    sold: int
    held: int
    cancelled: int
    redeemed: int


def run_report(arguments: Sequence[str], client: Client, output: Output) -> int:
    """Run ``report`` and return the exit status. Raises OSError if stdout cannot be written."""
    try:
        event = REPORT.parse(arguments)["event"]
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    try:
        shown = pages.one(client, Show(event, "event"), EventReply)
        read = (booking for page in pages.bookings(client, Bookings(event=event)) for booking in page.bookings)
        report = report_of(event, read)
    except pages.RefusedError as error:
        output.error(error.reply)
        return status_of(error.reply)
    except CannotConnectError as error:
        output.failure("cannot_connect", str(error))
        return CANNOT_CONNECT
    if not output.quiet:
        _write(report, shown, output)
    return DONE


REPORT = OwnCommand(
    "report",
    "Show how many tickets of an event were sold, held, cancelled and redeemed in each hour.",
    [OwnField("event", OfEvent)],
    run_report,
)


def report_of(event: str, bookings: Iterable[BookingRecord]) -> Report:
    """Count the tickets of bookings of an event.

    A hold counts as held when it is made, and as sold when it is confirmed. What was cancelled stays sold in the hour
    in which it was. A redemption that was annulled does not count.
    """
    hours: dict[datetime, Hour] = {}

    def count(what: Count, at: datetime, tickets: int) -> None:
        begin = at.replace(minute=0, second=0, microsecond=0)
        hour = hours.setdefault(begin, Hour(begin))
        setattr(hour, what, getattr(hour, what) + tickets)

    for booking in bookings:
        began_held = booking.made is not None and booking.made.seconds is not None
        count("held" if began_held else "sold", booking.booked_at, booking.quantity)
        for change in booking.changes:
            if change.what == "confirm":
                count("sold", change.at, booking.quantity)
            elif change.what == "cancel":
                count("cancelled", change.at, len(change.tickets))
        for at in booking.redeemed_at:
            count("redeemed", at, 1)
    ordered = [hours[begin] for begin in sorted(hours)]
    totals = {what: sum(getattr(hour, what) for hour in ordered) for what in Hour.__struct_fields__[1:]}
    return Report(event, ordered, **totals)


def _write(report: Report, event: EventReply, output: Output) -> None:
    if output.mode == "json":
        write_text(printable(msgspec.json.encode(report).decode()), sys.stdout)
    elif output.mode == "plain":
        writer = csv.writer(sys.stdout)
        writer.writerow(Hour.__struct_fields__)
        writer.writerows(msgspec.to_builtins(hour).values() for hour in report.hours)
        sys.stdout.flush()
    else:
        # Imported here, because its tables take longer to import than most commands take.
        from ticketctl.bars import draw

        draw(report.hours, event, output.zone)
