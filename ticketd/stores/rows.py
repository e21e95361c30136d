"""Events, bookings and tickets as rows, the same columns in every ledger. Only times are kept in the way of each."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from ticketd.model import Booking, Change, Event, Ticket

EVENT_COLUMNS = "id, name, date, capacity, available, held, sold, version, sold_elsewhere, original"
BOOKING_COLUMNS = "id, event, quantity, state, tickets, available, version, seconds, expires, changes"
TICKET_COLUMNS = "id, event, booking, state, redeemed_at"


class Rows(NamedTuple):
    """Turns what the model knows into rows and back.

    ``read_date`` and ``write_date`` are for the dates of events, ``read_time`` and ``write_time`` for the times of
    holds and of redemption, which are whole milliseconds.
    """

    read_date: Callable[[Any], datetime]
    write_date: Callable[[datetime], Any]
    read_time: Callable[[Any], datetime]
    write_time: Callable[[datetime], Any]

    def event_of(self, row: Iterable[Any]) -> Event:
        """Return the event that a row of EVENT_COLUMNS holds."""
        id, name, date, capacity, available, held, sold, version, elsewhere, original = row
        first = None if original is None else msgspec.json.decode(original, type=tuple[str, datetime, int])
        when = self.read_date(date)
        return Event(id, name, when, capacity, available, held, sold, version, elsewhere, first)

    def of_event(self, event: Event) -> tuple[Any, ...]:
        """Return an event as a row of EVENT_COLUMNS."""
        id, name, date, *counts, original = msgspec.structs.astuple(event)
        return (id, name, self.write_date(date), *counts, original and msgspec.json.encode(original).decode())

    def booking_of(self, row: Iterable[Any]) -> Booking:
        """Return the booking that a row of BOOKING_COLUMNS holds."""
        id, event, quantity, state, tickets, available, version, seconds, expires, changes = row
        past = msgspec.json.decode(changes, type=list[Change]) if changes else ()
        ends = None if expires is None else self.read_time(expires)
        return Booking(id, event, quantity, state, tickets.split(), available, version, seconds, ends, past)

    def of_booking(self, booking: Booking) -> tuple[Any, ...]:
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
            booking.expires and self.write_time(booking.expires),
            msgspec.json.encode(booking.changes).decode() if booking.changes else None,
        )

    def ticket_of(self, row: Iterable[Any]) -> Ticket:
        """Return the ticket that a row of TICKET_COLUMNS holds."""
        id, event, booking, state, redeemed_at = row
        return Ticket(id, event, booking, state, None if redeemed_at is None else self.read_time(redeemed_at))

    def of_ticket(self, ticket: Ticket) -> tuple[Any, ...]:
        """Return a ticket as a row of TICKET_COLUMNS."""
        at = ticket.redeemed_at
        return (ticket.id, ticket.event, ticket.booking, ticket.state, at and self.write_time(at))
