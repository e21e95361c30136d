"""The bookings and tickets that were shown lately, for completion."""

from collections.abc import Iterable

from ticketd.model import is_id, printable, ticket_parts
from ticketd.wire.replies import BookingFacts, BookingReply, BookingsReply, Reply, TicketReply

BOOKINGS_MAX = 50
TICKETS_MAX = 200


class Recent:
    """Remembers the last BOOKINGS_MAX bookings and TICKETS_MAX tickets. Only ids are kept, whatever a server sends."""

    def __init__(self) -> None:
        self._bookings: dict[str, str] = {}
        self._tickets: dict[str, str] = {}

    def see(self, reply: Reply) -> None:
        """Remember the bookings and tickets of a reply."""
        match reply:
            case BookingReply():
                self._see(reply)
            case BookingsReply():
                for booking in reversed(reply.bookings):
                    self._see(booking)
            case TicketReply():
                self._put_ticket(reply.id, reply.event)

    def bookings(self) -> Iterable[tuple[str, str]]:
        """Return the ids of bookings and what they are, those shown last first. May be called in another thread."""
        return list(reversed(self._bookings.copy().items()))

    def tickets(self) -> Iterable[tuple[str, str]]:
        """Return the ids of tickets and what they are, those shown last first. May be called in another thread."""
        return list(reversed(self._tickets.copy().items()))

    def _see(self, booking: BookingFacts) -> None:
        for ticket in reversed(booking.tickets):
            self._put_ticket(ticket, booking.event)
        if is_id(booking.id):
            tickets = f"{booking.quantity} ticket{'' if booking.quantity == 1 else 's'}"
            what = printable(f"{tickets} of {booking.event}, {booking.state}")
            _put(self._bookings, booking.id, what, BOOKINGS_MAX)

    def _put_ticket(self, id: str, event: str) -> None:
        if all(map(is_id, ticket_parts(id))):
            _put(self._tickets, id, printable(f"a ticket of {event}"), TICKETS_MAX)


def _put(ids: dict[str, str], id: str, what: str, at_most: int) -> None:
    """Put an id to the end."""
    ids.pop(id, None)
    ids[id] = what
    if len(ids) > at_most:
        del ids[next(iter(ids))]
