"""``export``: a report of all events, bookings or tickets, as JSON lines or CSV.

Asks for a page after the other, so that neither side ever holds more than one.
"""

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, islice
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ticketctl import pages
from ticketctl.cells import cell
from ticketctl.client import CannotConnectError, Client, RefusedError
from ticketctl.facts import redeemers, redemptions
from ticketctl.output import CANNOT_CONNECT, DONE, USAGE, Output, status_of
from ticketctl.own import OwnCommand, OwnField
from ticketd.errors import TicketError
from ticketd.model import Id, TicketState, printable
from ticketd.wire.codec import encode
from ticketd.wire.replies import (
    BookingRecord,
    EventFacts,
    EventReply,
    EventsReply,
    error_reply,
)
from ticketd.wire.requests import Bookings, List, Show


class Ticket(Struct, omit_defaults=True, gc=False):
    """One ticket, with the fields that ``show`` has for it, and whose it is."""

    id: str
    event: str
    booking: str
    state: TicketState
    redeemed_at: datetime | None = None
    buyer: str | None = None
    by: str | None = None


Row: TypeAlias = EventFacts | BookingRecord | Ticket

# The columns of the CSV of each report. New ones go to the end.
_COLUMNS: dict[str, Sequence[str]] = {
    "events": EventFacts.__struct_fields__,
    "bookings": (
        *("id", "event", "quantity", "state", "tickets", "available", "version"),
        *("expires", "cancelled", "redeemed", "redeemed_at"),
        *("booked_at", "buyer", "changes", "by", "redeemed_by"),
    ),
    "tickets": Ticket.__struct_fields__,
}

What = Annotated[Literal["events", "bookings", "tickets"], Meta(description="what to write")]
OnlyEvent = Annotated[
    Id, Meta(description="only what belongs to the event with this id", extra={"completes": "events"})
]
AsCsv = Annotated[bool, Meta(title="it takes no value", description="write CSV with a header line, not JSON lines")]


def run_export(arguments: Sequence[str], client: Client, output: Output) -> int:
    """Run ``export`` and return the exit status. Raises BrokenPipeError, and OSError if stdout cannot be written."""
    try:
        given = EXPORT.parse(arguments)
        if "csv" in given and output.mode == "json":
            raise EXPORT.wrong("--csv and --json exclude each other")
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    what = given["what"]
    rows = _Rows(what, given.get("event"), client)
    try:
        if "csv" in given:
            _write_csv(iter(rows), _COLUMNS[what])
        else:
            _write_json(rows)
    except RefusedError as error:
        sys.stdout.flush()
        refusal = EXPORT.refusal(error.reply)
        output.error(msgspec.structs.replace(refusal, message=rows.why_incomplete(refusal.message)))
        return status_of(refusal)
    except CannotConnectError as error:
        sys.stdout.flush()
        output.failure("cannot_connect", rows.why_incomplete(str(error)))
        return CANNOT_CONNECT
    sys.stdout.flush()
    output.note(rows.counted())
    return DONE


EXPORT = OwnCommand(
    "export",
    "Write a report of all events, bookings or tickets.",
    [
        OwnField("what", What),
        OwnField("event", OnlyEvent | UnsetType, required=False),
        OwnField("csv", AsCsv, required=False, usage="[--csv]", flag=True),
    ],
    run_export,
    # Of events. That of bookings and tickets is checked by the daemon.
    List.roles,
)


class _Rows:
    """The rows of a report, read page by page, and how many of them there were.

    Iterating raises CannotConnectError or RefusedError.
    """

    def __init__(self, what: str, event: str | None, client: Client) -> None:
        self._what = what
        self._event = event
        self._client = client
        self._pages = 0
        self._count = 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._all():
            yield row
            # The caller asks for the next row once it has written this one.
            self._count += 1

    def counted(self) -> str:
        """Return how many rows were written, such as ``1,204 bookings``."""
        return pages.counted(self._count, self._what)

    def why_incomplete(self, why: str) -> str:
        """Return the message for an error that ended the report. Before the first page, it is the error itself."""
        return pages.incomplete(why, self.counted()) if self._pages else why

    def _all(self) -> Iterator[Row]:
        event = None if self._event is None else self._show(self._event)
        if self._what == "bookings":
            yield from self._bookings()
        elif self._what == "tickets":
            for booking in self._bookings():
                yield from _tickets(booking)
        elif event:
            yield event
        else:
            yield from self._events()

    def _show(self, event: str) -> EventFacts:
        reply = pages.one(self._client, Show(event, "event"), EventReply)
        return EventFacts(*(getattr(reply, name) for name in EventFacts.__struct_fields__))

    def _events(self) -> Iterator[EventFacts]:
        after: str | UnsetType = UNSET
        while True:
            page = pages.one(self._client, List(after), EventsReply)
            self._pages += 1
            yield from page.events
            if not page.more:
                return
            if not page.events:
                raise pages.endless(self._client)
            after = page.events[-1].id

    def _bookings(self) -> Iterator[BookingRecord]:
        for page in pages.bookings(self._client, Bookings(event=UNSET if self._event is None else self._event)):
            self._pages += 1
            yield from page.bookings


def _tickets(booking: BookingRecord) -> Iterator[Ticket]:
    """Yield the tickets of a booking, in its order."""
    cancelled, redeemed, redeemed_by = set(booking.cancelled), redemptions(booking), redeemers(booking)
    for ticket in booking.tickets:
        state: TicketState = "redeemed" if ticket in redeemed else "cancelled" if ticket in cancelled else "valid"
        at, by = redeemed.get(ticket), redeemed_by.get(ticket)
        yield Ticket(ticket, booking.event, booking.id, state, at, booking.buyer, by)


def _write_json(rows: Iterable[Row]) -> None:
    for row in rows:
        sys.stdout.write(printable(encode(row).decode()) + "\n")


def _write_csv(rows: Iterator[Row], columns: Sequence[str]) -> None:
    """Write rows as RFC 4180 says: a header, CR LF at the end of each line, quotes where they are needed."""
    writer = csv.writer(sys.stdout)
    # The first row is read before the header is written, so that nothing is written if the daemon cannot be reached.
    first = list(islice(rows, 1))
    writer.writerow(columns)
    for row in chain(first, rows):
        writer.writerow([cell(getattr(row, column), " ") for column in columns])
