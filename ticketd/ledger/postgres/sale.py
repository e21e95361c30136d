"""Sells new bookings of one event by a single statement, without a transaction that locks and loads first.

The rules decide on the event as this daemon last saw it. Sales of other daemons since then only shift ``available`` and
``version``, by the same amount for all bookings of the batch; the statement returns the event, which shows by how much.
It succeeds if the rules grant every request, enough tickets are left, and none of the bookings exists. Otherwise
nothing is done, and the batch takes a full transaction: lock, load, decide, save, commit.
"""

from collections.abc import Mapping, Sequence
from copy import copy

from ticketd.ids import new_ticket
from ticketd.ledger.base import Answers
from ticketd.ledger.postgres.load import BEGAN, EVENTS
from ticketd.ledger.postgres.pool import CONFLICTS, PooledConnection
from ticketd.ledger.postgres.save import rows_of, values_of
from ticketd.ledger.rows import BOOKING_COLUMNS, EVENT_COLUMNS, event_of
from ticketd.model import Event
from ticketd.rules.commands import decide_all, read_set
from ticketd.rules.working_set import LedgerRequest, WorkingSet
from ticketd.wire.replies import BookingReply

_VALUES = values_of(BOOKING_COLUMNS)
_VALUES["available"] += " + shift.available"
_VALUES["version"] += " + shift.version"
# The row of the connection is locked first: when another connection gets its lock, this statement has ended (see
# ``outcomes``). If that has fenced this connection off, or the row does not exist, nothing is sold, however late the
# statement arrives. Nor is anything sold while holds of the event are due: ending them takes a full transaction.
_SELL = f"""
WITH fence AS (
    SELECT connection FROM commits WHERE connection = $1 AND at > '-infinity' FOR UPDATE
), event AS (
    UPDATE events SET available = available - $4, sold = sold + $4, version = version + $5,
        changed = pg_current_xact_id()
    FROM fence WHERE id = $3 AND available >= $4 AND (held = 0 OR NOT EXISTS (
        SELECT FROM bookings WHERE state = 'held' AND event = $3 AND expires <= {BEGAN}
    )) RETURNING {EVENT_COLUMNS}
), mark AS (
    UPDATE commits SET batch = $2, at = now() FROM event WHERE connection = $1
), shift AS (
    SELECT available - $6 AS available, version - $7 AS version FROM event
), new_bookings AS (
    INSERT INTO bookings ({BOOKING_COLUMNS})
    SELECT {", ".join(_VALUES.values())} FROM shift, jsonb_array_elements($8::jsonb)
)
SELECT {EVENT_COLUMNS} FROM event
"""
_SOLD = "SELECT id, available, version FROM bookings WHERE id = ANY($1::text[])"


class Sale:
    """A batch of new bookings of one event, decided on the event as it was last seen."""

    def __init__(self, working_set: WorkingSet, event: Event, replies: list[BookingReply]) -> None:
        self._working_set = working_set
        self._event = event
        self._replies = replies

    async def sell(self, connection: PooledConnection, batch: str) -> Answers | None:
        """Sell, and record the id ``batch``. Returns None if nothing was done.

        After any other exception than CONFLICTS, the outcome may be unknown.
        """
        event, bookings = self._event, list(self._working_set.changed_bookings.values())
        try:
            row = await connection.fetchrow(
                _SELL,
                connection.name,
                batch,
                event.id,
                sum(booking.quantity for booking in bookings),
                len(bookings),
                event.available,
                event.version,
                rows_of(bookings),
            )
        except CONFLICTS:
            return None
        if row is None:
            return None
        now = event_of(row)
        for reply in self._replies:
            reply.available += now.available - event.available
            reply.version += now.version - event.version
        return Answers([*self._replies], [now], changed=True)

    async def look_up(self, connection: PooledConnection) -> Answers:
        """Return the result of a sale that is known to be committed."""
        rows = await connection.fetch(_SOLD, [reply.id for reply in self._replies])
        found = {row["id"]: row for row in rows}
        for reply in self._replies:
            reply.available, reply.version = found[reply.id]["available"], found[reply.id]["version"]
        events = await connection.fetch(EVENTS, [self._event.id])
        return Answers([*self._replies], list(map(event_of, events)), changed=True)


def sale_of(requests: Sequence[LedgerRequest], known: Mapping[str, Event]) -> Sale | None:
    """Return the requests as a sale, decided on the known events, or None if that is not possible."""
    reads = read_set(requests)
    if len(reads.events) != 1 or len(requests) != len(reads.new_bookings):
        return None
    [event_id] = reads.events
    if event_id not in known:
        return None
    working_set = WorkingSet(new_ticket, 0)
    event = working_set.events[event_id] = copy(known[event_id])
    replies = [reply for reply in decide_all(working_set, requests) if isinstance(reply, BookingReply)]
    sold = [booking for booking in working_set.changed_bookings.values() if booking.state == "confirmed"]
    if not len(replies) == len(sold) == len(requests):
        return None
    return Sale(working_set, event, replies)
