"""Owns the columns of events, bookings and redemptions, which are the same in every ledger, and reads their rows."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from ticketd.model import Booking, Change, Event

EVENT_COLUMNS = "id, name, date, capacity, available, held, sold, version, sold_elsewhere, original"
BOOKING_COLUMNS = "id, event, quantity, state, tickets, available, version, seconds, expires, changes"
REDEMPTION_COLUMNS = "booking, ticket, at"


class Table(NamedTuple):
    """A table with the columns that make up the sale, and those that order its rows."""

    name: str
    columns: str
    order: str


# In the order in which rows refer to each other: a booking has an event, a redemption has a booking.
EVENTS = Table("events", f"number, {EVENT_COLUMNS}", "number")
BOOKINGS = Table("bookings", BOOKING_COLUMNS, "id")
REDEMPTIONS = Table("redemptions", REDEMPTION_COLUMNS, "booking, ticket")
TABLES = (EVENTS, BOOKINGS, REDEMPTIONS)

_original = msgspec.json.Decoder(tuple[str, datetime, int]).decode
_tickets = msgspec.json.Decoder(list[str]).decode
_changes = msgspec.json.Decoder(list[Change]).decode


def event_of(row: Iterable[Any]) -> Event:
    """Return the event that a row of EVENT_COLUMNS holds. Its date may be text."""
    id, name, date, capacity, available, held, sold, version, elsewhere, original = row
    when = date if isinstance(date, datetime) else datetime.fromisoformat(date)
    first = None if original is None else _original(original)
    return Event(id, name, when, capacity, available, held, sold, version, elsewhere, first)


def booking_of(row: Iterable[Any]) -> Booking:
    """Return the booking that a row of BOOKING_COLUMNS holds."""
    id, event, quantity, state, tickets, available, version, seconds, expires, changes = row
    past = None if changes is None else _changes(changes)
    return Booking(id, event, quantity, state, _tickets(tickets), available, version, seconds, expires, past)
