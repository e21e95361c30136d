"""``report``: what was sold, held, cancelled and redeemed of an event, hour by hour.

Reads the pages of its bookings, one at a time. Draws bars on a terminal, and writes CSV in a pipe.
"""

import csv
import sys
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from ticketctl import pages
from ticketctl.client import CannotConnectError, Client, RefusedError
from ticketctl.hours import Hour, Report, report_of
from ticketctl.output import CANNOT_CONNECT, DONE, USAGE, Output, status_of, write_text
from ticketctl.own import OwnCommand, OwnField
from ticketd.errors import TicketError
from ticketd.model import Id, printable
from ticketd.wire.replies import EventReply, error_reply
from ticketd.wire.requests import Bookings, Show

OfEvent = Annotated[Id, Meta(description="the id of the event", extra={"completes": "events"})]


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
    except RefusedError as error:
        output.error(REPORT.refusal(error.reply))
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
    Bookings.roles,
)


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
