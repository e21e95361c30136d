"""Loads working sets from PostgreSQL.

A booking is loaded with all of its redemptions: mostly there are no more than it has tickets.
"""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from typing import Any

import msgspec

from ticketd.ids import new_ticket
from ticketd.ledger.postgres.connection import PooledConnection
from ticketd.ledger.postgres.sql import BEGAN, columns
from ticketd.ledger.postgres.waiting_lists import CAN_OFFER, load_positions, load_waiting_lists
from ticketd.ledger.rows import BOOKING_COLUMNS, EVENT_COLUMNS, REDEMPTION_COLUMNS, booking_of, event_of
from ticketd.model import TICKETS_PER_BOOKING_MAX, Redemption
from ticketd.rules.working_set import BOOKINGS_SEARCHED, TICKETS_PER_PAGE, Page, ReadSet, WorkingSet

EVENTS = f"SELECT {EVENT_COLUMNS} FROM events WHERE id = ANY($1::text[])"
_LOCK = "SELECT FROM events WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE"
BOOKINGS = f"SELECT {BOOKING_COLUMNS} FROM bookings WHERE id = ANY($1::text[])"
_REDEEMED = f"""(
    SELECT json_agg(json_build_array({REDEMPTION_COLUMNS}) ORDER BY ticket, number)
    FROM redemptions WHERE booking = bookings.id
)"""
_BOOKING = f"{_REDEEMED}, {columns('bookings', BOOKING_COLUMNS)}"
_EVENT = columns("events", EVENT_COLUMNS)
# Each booking with its event, by one statement, so on one snapshot. An id may be of a booking, an event, or both. The
# catalogue lists events that are new to it in this order.
_LOAD = f"""
SELECT {_BOOKING}, {_EVENT}, {BEGAN}, CASE WHEN events.held > 0 THEN (
    SELECT sum(quantity) FROM bookings AS holds WHERE state = 'held' AND expires <= {BEGAN} AND holds.event = events.id
) END
FROM unnest($1::text[]) AS wanted LEFT JOIN bookings ON bookings.id = wanted
LEFT JOIN events ON events.id = ANY(ARRAY[wanted, bookings.event]) ORDER BY events.number
"""
# Up to $1 events whose holds are due, or of which tickets can be offered, and when the next other hold expires or offer
# can be made. An event that is locked is skipped: whoever has locked it does this. The events are read on the snapshot
# of the holds; what is locked may be newer.
_LOAD_DUE = f"""
WITH holds AS (
    SELECT event, sum(quantity) AS due FROM bookings WHERE state = 'held' AND expires <= {BEGAN} GROUP BY event
    UNION ALL
    SELECT id, 0 FROM events WHERE {CAN_OFFER} AND coalesce(opens, 0) <= {BEGAN} AND NOT EXISTS (
        SELECT FROM bookings WHERE state = 'held' AND expires <= {BEGAN} AND event = events.id
    )
)
SELECT {BEGAN}, least(
    (SELECT min(expires) FROM bookings WHERE state = 'held' AND expires > {BEGAN}),
    (SELECT min(opens) FROM events WHERE {CAN_OFFER} AND opens > {BEGAN})
), due, {EVENT_COLUMNS}
FROM (VALUES (1)) AS once LEFT JOIN (
    SELECT due, {EVENT_COLUMNS} FROM holds JOIN events ON id = event WHERE id = ANY(ARRAY(
        SELECT id FROM events WHERE id = ANY(ARRAY(SELECT event FROM holds)) LIMIT $1 FOR UPDATE SKIP LOCKED
    ))
) AS events ON true
"""
# A page, and at most one booking more. If it is searched for, $3 is the last booking to look at, unless there are no
# more. The number of tickets follows from state and quantity, without reading them. The first booking is taken however
# large it is.
_PAGE = f"""
SELECT {_BOOKING}, {_EVENT}
FROM (
    SELECT *, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - size AS before
    FROM (
        SELECT *, least({TICKETS_PER_PAGE}, CASE WHEN state IN ('confirmed', 'cancelled') THEN quantity ELSE 0 END
            + coalesce(jsonb_array_length(changes), 0)) AS size
        FROM bookings WHERE id > $1 AND id <= coalesce($3, id)
            AND event = coalesce($4, event) AND ($5::text IS NULL OR buyer = $5)
        ORDER BY id LIMIT $2 + 1
    ) AS bookings
) AS bookings
JOIN events ON events.id = bookings.event
WHERE bookings.before <= {TICKETS_PER_PAGE} ORDER BY bookings.id
"""
_SEARCHED = f"SELECT id FROM bookings WHERE id > $1 ORDER BY id LIMIT 1 OFFSET {BOOKINGS_SEARCHED - 1}"
# What buyers have of events: $1 and $2 are pairs. With a limit from the start, a buyer has fewer than these.
_OWNED = f"""
SELECT {columns("own", BOOKING_COLUMNS)} FROM unnest($1::text[], $2::text[]) AS wanted (event, buyer), LATERAL (
    SELECT * FROM bookings
    WHERE event = wanted.event AND buyer = wanted.buyer AND state IN ('waiting', 'held', 'confirmed')
    LIMIT {TICKETS_PER_BOOKING_MAX + 1}
) AS own
"""
_REMOVED = "SELECT event FROM removals WHERE event = ANY($1::text[])"

_redemptions = msgspec.json.Decoder(list[Redemption]).decode
_BOOKING_WIDTH = 1 + len(BOOKING_COLUMNS.split(", "))


async def lock(connection: PooledConnection, events: Sequence[str]) -> None:
    """Begin a transaction, and lock events in it. What is loaded then stays until its end."""
    await connection.execute("BEGIN")
    await connection.fetch(_LOCK, events)


async def load(connection: PooledConnection, reads: ReadSet, *, ends_due: bool = True) -> WorkingSet:
    """Return what a batch reads, with the events of its bookings, on one snapshot. Its time is that of the database.

    ``ends_due`` says that due holds are to be ended; else they are still held.
    """
    # The event and what a buyer has must be read at the same moment: a refusal tells both.
    async with AsyncExitStack() as stack:
        if (reads.buyers or reads.buyers_of) and not connection.is_in_transaction():
            await stack.enter_async_context(_snapshot(connection))
        while not (working_set := await _load(connection, reads, ends_due=ends_due)):
            pass
    return working_set


@asynccontextmanager
async def _snapshot(connection: PooledConnection) -> AsyncIterator[None]:
    """Read on one snapshot."""
    # Not by the driver's ``transaction``: if the connection freezes, that would wait for its end for ever.
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    yield
    await connection.execute("COMMIT")


async def _load(connection: PooledConnection, reads: ReadSet, *, ends_due: bool) -> WorkingSet | None:
    """Return what ``load`` does, or None if an event has changed before its line was read."""
    working_set = WorkingSet(new_ticket, 0)
    ids = reads.events | reads.bookings | reads.new_bookings
    for row in await connection.fetch(_LOAD, list(ids)):
        _add_booking(working_set, row[:_BOOKING_WIDTH])
        _add_event(working_set, row[_BOOKING_WIDTH:-2])
        working_set.now, due = row[-2:]
        if due and ends_due:
            working_set.due[row[_BOOKING_WIDTH]] = due
    if ends_due and await load_waiting_lists(connection, reads, working_set):
        return None
    if reads.buyers or reads.buyers_of:
        await _load_owned(connection, reads, working_set)
    if reads.removals:
        working_set.removed = {event for [event] in await connection.fetch(_REMOVED, list(reads.removals))}
    return working_set


async def _load_owned(connection: PooledConnection, reads: ReadSet, working_set: WorkingSet) -> None:
    limited = reads.limited_buyers(working_set.events, working_set.bookings)
    if not limited:
        return
    pairs = [(event, buyer) for event, buyers in limited.items() for buyer in buyers]
    owned: Counter[tuple[str, str]] = Counter()
    for booking in map(booking_of, await connection.fetch(_OWNED, *zip(*pairs, strict=True))):
        ends = booking.expires is not None and booking.expires <= working_set.now and booking.event in working_set.due
        if not (ends and booking.state == "held"):
            owned[booking.event, str(booking.buyer)] += booking.owned()
    for (event, buyer), tickets in owned.items():
        working_set.count_owned(event, buyer, tickets)


async def load_committed(connection: PooledConnection, reads: ReadSet) -> WorkingSet:
    """Return what ``load`` does, but as it was committed: no hold is ended. It shows where each stands who waits."""
    return await _with_positions(connection, lambda: load(connection, reads, ends_due=False))


async def _with_positions(
    connection: PooledConnection, load_bookings: Callable[[], Awaitable[WorkingSet]]
) -> WorkingSet:
    working_set = await load_bookings()
    if not await load_positions(connection, working_set):
        async with _snapshot(connection):
            working_set = await load_bookings()
            await load_positions(connection, working_set)
    return working_set


async def load_due(connection: PooledConnection, events_max: int) -> tuple[WorkingSet, int | None]:
    """Return up to ``events_max`` events with holds that are due, or with tickets for those who wait in line, and when
    the next hold expires, or the next offer can be made; None if neither is known.

    That is in milliseconds since 1970. If there may be more such events, it is now.
    """
    working_set = WorkingSet(new_ticket, 0)
    rows = await connection.fetch(_LOAD_DUE, events_max)
    working_set.now, next_expiry = rows[0][:2]
    for _, _, due, *event in rows:
        if due is None:
            break
        _add_event(working_set, event)
        if due:
            working_set.due[event[0]] = due
    reads = ReadSet()
    reads.events = reads.turns = set(working_set.events)
    for id in await load_waiting_lists(connection, reads, working_set):
        # Whoever has changed it has done the same.
        del working_set.events[id]
        working_set.due.pop(id, None)
    if reads.buyers:
        await _load_owned(connection, reads, working_set)
    return working_set, working_set.now if len(rows) == events_max else next_expiry


async def load_page(connection: PooledConnection, page: Page) -> WorkingSet:
    """Return a page of committed bookings with their events. Its time is 0.

    If it is of one event, that is there too, whether or not the page has bookings.
    """
    return await _with_positions(connection, lambda: _load_page(connection, page))


async def _load_page(connection: PooledConnection, page: Page) -> WorkingSet:
    working_set = WorkingSet(new_ticket, 0)
    searched = await connection.fetchval(_SEARCHED, page.after) if page.searches else None
    rows = await connection.fetch(_PAGE, page.after, page.limit, searched, page.event, page.buyer)
    working_set.fill_page(page, (booking_of(row[1:_BOOKING_WIDTH]) for row in rows), searched)
    for row in rows:
        _add_redemptions(working_set, row)
        _add_event(working_set, row[_BOOKING_WIDTH:])
    if page.event is not None and page.event not in working_set.events:
        for event in await connection.fetch(EVENTS, [page.event]):
            _add_event(working_set, event)
    return working_set


def part_of(working_set: WorkingSet, reads: ReadSet) -> WorkingSet:
    """Return a working set with copies of those parts that ``reads`` names."""
    part = WorkingSet(new_ticket, working_set.now)
    for id in reads.bookings | reads.new_bookings:
        if booking := working_set.bookings.get(id):
            part.bookings[id] = copy(booking)
            part.redemptions[id] = {
                ticket: [*history] for ticket, history in working_set.redemptions.get(id, {}).items()
            }
    for id in reads.events.union(booking.event for booking in part.bookings.values()):
        if event := working_set.events.get(id):
            part.events[id] = copy(event)
    part.owned, part.removed = dict(working_set.owned), set(working_set.removed)
    part.hold_seconds_total_max = working_set.hold_seconds_total_max
    return part


def _add_booking(working_set: WorkingSet, row: Any) -> None:
    if row[1] is not None and row[1] not in working_set.bookings:
        working_set.bookings[row[1]] = booking_of(row[1:])
        _add_redemptions(working_set, row)


def _add_redemptions(working_set: WorkingSet, row: Any) -> None:
    if row[0] is not None:
        working_set.add_redemptions(_redemptions(row[0]))


def _add_event(working_set: WorkingSet, row: Any) -> None:
    if row[0] is not None and row[0] not in working_set.events:
        working_set.events[row[0]] = event_of(row)
