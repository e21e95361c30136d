"""Owns the columns of events, bookings and redemptions, which are the same in every ledger, and reads their rows."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from ticketd.model import Booking, Change, Event, EventTerms

EVENT_COLUMNS = (
    "id, name, date, capacity, available, held, sold, version, sold_elsewhere, opens, closes, paused, per_buyer,"
    " amendments, original, waiting"
)
BOOKING_COLUMNS = (
    "id, event, quantity, state, tickets, available, version, booked_at, seconds, expires, buyer, actor, changes"
)
REDEMPTION_COLUMNS = "booking, ticket, number, what, at, note, actor"


class Table(NamedTuple):
    """A table with the columns that make up the sale, and those that order its rows."""

    name: str
    columns: str
    order: str


# In the order in which rows refer to each other: a booking has an event, a redemption has a booking. Events that were
# removed must not come back from a file.
EVENTS = Table("events", f"number, {EVENT_COLUMNS}", "number")
BOOKINGS = Table("bookings", BOOKING_COLUMNS, "id")
REDEMPTIONS = Table("redemptions", REDEMPTION_COLUMNS, "booking, ticket, number")
REMOVALS = Table("removals", "event", "event")
TABLES = (EVENTS, BOOKINGS, REDEMPTIONS, REMOVALS)

_original = msgspec.json.Decoder(EventTerms).decode
_tickets = msgspec.json.Decoder(list[str]).decode
_changes = msgspec.json.Decoder(list[Change]).decode


def event_of(row: Iterable[Any]) -> Event:
    """Return the event that a row of EVENT_COLUMNS holds. Its date may be text."""
    event = Event(*row)
    # Some columns are kept in another form.
    if isinstance(event.date, str):
        event.date = datetime.fromisoformat(event.date)
    event.paused = bool(event.paused)
    if event.original is not None:
        event.original = _original(event.original)  # type: ignore[arg-type]
    return event


def booking_of(row: Iterable[Any]) -> Booking:
    """Return the booking that a row of BOOKING_COLUMNS holds."""
    id, event, quantity, state, tickets, available, version, booked_at, seconds, expires, buyer, actor, changes = row
    return Booking(
        id,
        event,
        quantity,
        state,
        _tickets(tickets),
        available,
        version,
        booked_at,
        seconds,
        expires,
        buyer,
        actor,
        None if changes is None else _changes(changes),
    )
