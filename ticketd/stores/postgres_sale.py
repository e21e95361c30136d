"""New bookings of one event, sold by a single statement that locks and looks up nothing before.

What others sell meanwhile, from other daemons, does not stand in the way: it shifts what is available and the version,
by the same for all of a batch, and the statement tells by how much. So the rules decide by what is known of the event.
Where they sell everything that is asked for, the statement does too, if as much is left and none of the bookings is
there already. Anything else takes the long way: lock, load, decide, save, commit.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import copy

from ticketd.books import Books, LedgerRequest
from ticketd.model import Event
from ticketd.protocol import Book, BookingReply
from ticketd.rules import decide_all
from ticketd.stores.base import EPOCH, Committed
from ticketd.stores.postgres_link import CONFLICTS, Line
from ticketd.stores.postgres_load import EVENTS
from ticketd.stores.postgres_save import ROWS
from ticketd.stores.rows import BOOKING_COLUMNS, EVENT_COLUMNS, TICKET_COLUMNS

# The row of the mark comes first: whoever gets at it knows that this has ended. On a line that is over, or has no such
# row yet, nothing is sold, however late this arrives. Holds that have run out are for the long way.
_SELL = f"""
WITH fence AS (
    SELECT line FROM commits WHERE line = $1 AND at > '-infinity' FOR UPDATE
), event AS (
    UPDATE events SET available = available - $4, sold = sold + $4, version = version + $5,
        changed = pg_current_xact_id()
    FROM fence WHERE id = $3 AND available >= $4 AND (held = 0 OR NOT EXISTS (
        SELECT FROM bookings WHERE state = 'held' AND event = $3 AND expires <= now()
    )) RETURNING {EVENT_COLUMNS}
), mark AS (
    UPDATE commits SET batch = $2, at = now() FROM event WHERE line = $1
), shift AS (
    SELECT available - $6 AS available, version - $7 AS version FROM event
), new_bookings AS (
    INSERT INTO bookings ({BOOKING_COLUMNS})
    SELECT new.id, $3, new.quantity, 'confirmed', new.tickets, new.available + shift.available,
        new.version + shift.version, NULL, NULL, NULL
    FROM shift, unnest($8::text[], $9::int[], $10::text[], $11::int[], $12::bigint[])
        AS new (id, quantity, tickets, available, version)
), new_tickets AS (
    INSERT INTO tickets ({TICKET_COLUMNS})
    SELECT new.id, $3, new.booking, 'valid', NULL FROM shift, unnest($13::text[], $14::text[]) AS new (id, booking)
)
SELECT {EVENT_COLUMNS} FROM event
"""
_SOLD = "SELECT id, available, version FROM bookings WHERE id = ANY($1::text[])"


class Sale:
    """A batch of new bookings of one event, decided by what was known of it."""

    def __init__(self, books: Books, event: Event, replies: list[BookingReply]) -> None:
        self._books = books
        self._event = event
        self._replies = replies

    async def sell(self, line: Line, batch: str) -> Committed | None:
        """Sell, and mark it as this batch, or do nothing and return None. What asyncpg raises else tells nothing."""
        event, bookings = self._event, self._books.changed_bookings.values()
        tickets = self._books.changed_tickets.values()
        try:
            row = await line.fetchrow(
                _SELL,
                line.name,
                batch,
                event.id,
                sum(booking.quantity for booking in bookings),
                len(bookings),
                event.available,
                event.version,
                [booking.id for booking in bookings],
                [booking.quantity for booking in bookings],
                [" ".join(booking.tickets) for booking in bookings],
                [booking.available for booking in bookings],
                [booking.version for booking in bookings],
                [ticket.id for ticket in tickets],
                [ticket.booking for ticket in tickets],
            )
        except CONFLICTS:
            return None
        if row is None:
            return None
        now = ROWS.event_of(row)
        for reply in self._replies:
            reply.available += now.available - event.available
            reply.version += now.version - event.version
        return Committed([*self._replies], [now], changed=True)

    async def look_up(self, line: Line) -> Committed:
        """Return what it came to, once it is known that it was sold."""
        rows = await line.fetch(_SOLD, [reply.id for reply in self._replies])
        found = {row["id"]: row for row in rows}
        for reply in self._replies:
            reply.available, reply.version = found[reply.id]["available"], found[reply.id]["version"]
        return Committed([*self._replies], list(map(ROWS.event_of, await line.fetch(EVENTS, [self._event.id]))), True)


def sale_of(requests: Sequence[LedgerRequest], known: Mapping[str, Event], new_id: Callable[[], str]) -> Sale | None:
    """Return the sale that the requests come to by the events that are known, or None if they come to anything else."""
    first = requests[0] if requests else None
    if not isinstance(first, Book) or first.event not in known:
        return None
    if not all(isinstance(request, Book) and request.event == first.event for request in requests):
        return None
    books = Books(new_id, EPOCH)
    books.events[first.event] = copy(known[first.event])
    replies = [reply for reply in decide_all(books, requests) if isinstance(reply, BookingReply)]
    if not len(replies) == len(books.changed_bookings) == len(requests):
        return None
    return Sale(books, books.events[first.event], replies)
