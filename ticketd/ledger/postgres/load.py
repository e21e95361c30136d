"""Loads working sets from PostgreSQL.

A booking is loaded with all of its redemptions: there are at most as many as it has tickets.
"""

from collections.abc import Iterable
from copy import copy
from typing import Any

import msgspec

from ticketd.ids import new_ticket
from ticketd.ledger.postgres.pool import PooledConnection
from ticketd.ledger.rows import BOOKING_COLUMNS, EVENT_COLUMNS, booking_of, event_of
from ticketd.model import TICKETS_PER_BOOKING_MAX
from ticketd.rules.working_set import TICKETS_PER_PAGE, Page, ReadSet, WorkingSet


def _milliseconds(time: str) -> str:
    # Rounded down, so that nothing runs out too early.
    return f"floor(extract(epoch FROM {time}) * 1000)::bigint"


def _columns(table: str, columns: str) -> str:
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))


# The times when the transaction began, and now, in milliseconds since 1970.
BEGAN = _milliseconds("now()")
NOW = _milliseconds("clock_timestamp()")
EVENTS = f"SELECT {EVENT_COLUMNS} FROM events WHERE id = ANY($1::text[])"
# The events in $1, and those of the bookings in $2. A booking never changes its event, so its event can be looked up
# before it is locked.
LOCK_EVENTS = f"""
SELECT {EVENT_COLUMNS} FROM events
WHERE id = ANY(ARRAY(SELECT unnest($1::text[]) UNION SELECT event FROM bookings WHERE id = ANY($2::text[])))
ORDER BY id FOR UPDATE
"""
_REDEEMED = "(SELECT json_object_agg(ticket, at) FROM redemptions WHERE booking = bookings.id)"
_BOOKING = f"{_REDEEMED}, {_columns('bookings', BOOKING_COLUMNS)}"
_LOAD = f"SELECT {NOW}, {_BOOKING} FROM (VALUES (1)) AS once LEFT JOIN bookings ON bookings.id = ANY($1::text[])"
_DUE = """
SELECT event, sum(quantity) FROM bookings WHERE state = 'held' AND expires <= $1 AND event = ANY($2::text[])
GROUP BY event
"""
# Each booking with its event, by one statement, so on one snapshot. An id may be of a booking, an event, or both.
_COMMITTED = f"""
SELECT {_BOOKING}, {_columns("events", EVENT_COLUMNS)}
FROM unnest($1::text[]) AS wanted LEFT JOIN bookings ON bookings.id = wanted
LEFT JOIN events ON events.id = ANY(ARRAY[wanted, bookings.event])
"""
# A page, and at most one booking more. The number of tickets follows from state and quantity, without reading them.
_PAGE = f"""
SELECT {_BOOKING}, {_columns("events", EVENT_COLUMNS)}
FROM (
    SELECT *, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - size AS before
    FROM (
        SELECT *, CASE WHEN state IN ('confirmed', 'cancelled') THEN quantity ELSE 0 END AS size
        FROM bookings WHERE id > $1 ORDER BY id LIMIT $2 + 1
    ) AS bookings
) AS bookings
JOIN events ON events.id = bookings.event
WHERE bookings.before <= {TICKETS_PER_PAGE} ORDER BY bookings.id
"""
assert TICKETS_PER_BOOKING_MAX <= TICKETS_PER_PAGE

_redeemed = msgspec.json.Decoder(dict[str, int]).decode
_BOOKING_WIDTH = 1 + len(BOOKING_COLUMNS.split(", "))


async def load(connection: PooledConnection, reads: ReadSet, events: Iterable[Any]) -> WorkingSet:
    """Return the working set of a batch: the rows of its locked events, and its bookings.

    Its time is that of the database.
    """
    rows = await connection.fetch(_LOAD, list(reads.bookings | reads.new_bookings))
    working_set = WorkingSet(new_ticket, rows[0][0])
    working_set.events = {row[0]: event_of(row) for row in events}
    for row in rows:
        _add_booking(working_set, row[1:])
    if holding := [event.id for event in working_set.events.values() if event.held]:
        rows = await connection.fetch(_DUE, working_set.now, holding)
        working_set.due = {row[0]: row[1] for row in rows}
    return working_set


async def load_committed(connection: PooledConnection, reads: ReadSet) -> WorkingSet:
    """Return committed bookings with their events, on one snapshot. Its time is 0, so no hold has run out."""
    ids = reads.events | reads.bookings | reads.new_bookings
    working_set = WorkingSet(new_ticket, 0)
    for row in await connection.fetch(_COMMITTED, list(ids)):
        _add_booking(working_set, row[:_BOOKING_WIDTH])
        _add_event(working_set, row[_BOOKING_WIDTH:])
    return working_set


async def load_page(connection: PooledConnection, page: Page) -> WorkingSet:
    """Return a page of committed bookings with their events, on one snapshot. Its time is 0."""
    working_set = WorkingSet(new_ticket, 0)
    rows = await connection.fetch(_PAGE, page.after, page.limit)
    working_set.fill_page(page, (booking_of(row[1:_BOOKING_WIDTH]) for row in rows))
    for row in rows:
        _add_redemptions(working_set, row)
        _add_event(working_set, row[_BOOKING_WIDTH:])
    return working_set


def part_of(working_set: WorkingSet, reads: ReadSet) -> WorkingSet:
    """Return a working set with copies of those parts that ``reads`` names."""
    part = WorkingSet(new_ticket, working_set.now)
    for id in reads.bookings | reads.new_bookings:
        if booking := working_set.bookings.get(id):
            part.bookings[id] = copy(booking)
            part.redemptions[id] = dict(working_set.redemptions.get(id, {}))
    for id in reads.events.union(booking.event for booking in part.bookings.values()):
        if event := working_set.events.get(id):
            part.events[id] = copy(event)
    return part


def _add_booking(working_set: WorkingSet, row: Any) -> None:
    if row[1] is not None and row[1] not in working_set.bookings:
        working_set.bookings[row[1]] = booking_of(row[1:])
        _add_redemptions(working_set, row)


def _add_redemptions(working_set: WorkingSet, row: Any) -> None:
    if row[0] is not None:
        working_set.redemptions[row[1]] = _redeemed(row[0])


def _add_event(working_set: WorkingSet, row: Any) -> None:
    if row[0] is not None and row[0] not in working_set.events:
        working_set.events[row[0]] = event_of(row)
