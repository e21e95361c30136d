"""Events, bookings and tickets as rows of the embedded ledger. The schema is in ``sqlite_file``."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from ticketd.model import Booking, Change, Event, Ticket

EVENT_COLUMNS = "id, name, date, capacity, available, held, sold, version, sold_elsewhere, original"
BOOKING_COLUMNS = "id, event, quantity, state, tickets, available, version, seconds, expires, changes"
TICKET_COLUMNS = "id, event, booking, state, redeemed_at"


def milliseconds(time: datetime) -> int:
    """Return a time as milliseconds since 1970 in UTC."""
    return round(time.timestamp() * 1_000)


def time_of(milliseconds: int | None) -> datetime | None:
    """Return the time that so many milliseconds stand for."""
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1_000, UTC)


def event_of(row: tuple[Any, ...]) -> Event:
    """Return the event that a row of EVENT_COLUMNS holds."""
    id, name, date, capacity, available, held, sold, version, elsewhere, original = row
    first = None if original is None else msgspec.json.decode(original, type=tuple[str, datetime, int])
    return Event(id, name, datetime.fromisoformat(date), capacity, available, held, sold, version, elsewhere, first)


def row_of_event(event: Event) -> tuple[Any, ...]:
    """Return an event as a row of EVENT_COLUMNS."""
    id, name, date, *counts, original = msgspec.structs.astuple(event)
    return (id, name, date.isoformat(), *counts, original and msgspec.json.encode(original).decode())


def booking_of(row: tuple[Any, ...]) -> Booking:
    """Return the booking that a row of BOOKING_COLUMNS holds."""
    id, event, quantity, state, tickets, available, version, seconds, expires, changes = row
    past = msgspec.json.decode(changes, type=list[Change]) if changes else ()
    return Booking(id, event, quantity, state, tickets.split(), available, version, seconds, time_of(expires), past)


def row_of_booking(booking: Booking) -> tuple[Any, ...]:
    """Return a booking as a row of BOOKING_COLUMNS."""
    return (
        booking.id,
        booking.event,
        booking.quantity,
        booking.state,
        " ".join(booking.tickets),
        booking.available,
        booking.version,
        booking.seconds,
        booking.expires and milliseconds(booking.expires),
        msgspec.json.encode(booking.changes).decode() if booking.changes else None,
    )


def ticket_of(row: tuple[Any, ...]) -> Ticket:
    """Return the ticket that a row of TICKET_COLUMNS holds."""
    id, event, booking, state, redeemed_at = row
    return Ticket(id, event, booking, state, time_of(redeemed_at))


def row_of_ticket(ticket: Ticket) -> tuple[Any, ...]:
    """Return a ticket as a row of TICKET_COLUMNS."""
    at = ticket.redeemed_at
    return (ticket.id, ticket.event, ticket.booking, ticket.state, at and milliseconds(at))
