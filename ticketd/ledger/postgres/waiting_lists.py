"""Owns the waiting lists in PostgreSQL: which are read for a batch, who stands where, and when an offer can be made."""

import math

from ticketd.ledger.postgres.connection import PooledConnection
from ticketd.ledger.postgres.sql import BEGAN, columns
from ticketd.ledger.rows import BOOKING_COLUMNS, booking_of
from ticketd.model import Booking
from ticketd.rules.waiting import offer_budgets
from ticketd.rules.waiting_list import WaitingList
from ticketd.rules.working_set import ReadSet, WorkingSet

# Whether tickets of an event can be offered to somebody in its line now, or when its sale opens.
CAN_OFFER = f"""
    waiting > 0 AND available > 0 AND NOT paused AND (closes IS NULL OR closes > greatest({BEGAN}, coalesce(opens, 0)))
    AND EXISTS (SELECT FROM bookings WHERE state = 'waiting' AND event = events.id AND quantity <= events.available)
"""
# When the next offer can be made, in milliseconds since 1970.
NEXT_OFFER = f"(SELECT min(coalesce(opens, 0)) FROM events WHERE {CAN_OFFER})"
# For each of the events $1: its version, the lowest quantity above its budget, from $2, for which a booking waits, and
# the first bookings in line of each quantity, as many as the budget may serve.
_LINES = f"""
SELECT events.id, events.version, (
    SELECT min(quantity) FROM bookings WHERE state = 'waiting' AND event = wanted.event AND quantity > budget
), {columns("waits", BOOKING_COLUMNS)}
FROM unnest($1::text[], $2::integer[]) AS wanted (event, budget) JOIN events ON events.id = wanted.event
LEFT JOIN LATERAL (
    WITH RECURSIVE sizes AS (
        SELECT min(quantity) AS quantity FROM bookings WHERE state = 'waiting' AND event = wanted.event
        UNION ALL
        SELECT (
            SELECT min(quantity) FROM bookings
            WHERE state = 'waiting' AND event = wanted.event AND quantity > sizes.quantity
        )
        FROM sizes WHERE quantity < budget
    )
    SELECT first.* FROM sizes, LATERAL (
        SELECT * FROM bookings WHERE state = 'waiting' AND event = wanted.event AND quantity = sizes.quantity
        ORDER BY version LIMIT wanted.budget / sizes.quantity
    ) AS first
    WHERE sizes.quantity <= budget
) AS waits ON true
"""
# The positions of the bookings that joined the lines of the events $1 at the versions $2, and the version of each event
# when that was read. Each line is read once, up to the last of these bookings.
_POSITIONS = """
SELECT event, events.version, joined, (sum((
    SELECT count(*) FROM bookings
    WHERE state = 'waiting' AND event = events.id AND version > before AND version <= joined
)) OVER (PARTITION BY event ORDER BY joined))::bigint
FROM (
    SELECT event, joined, lag(joined, 1, 0::bigint) OVER (PARTITION BY event ORDER BY joined) AS before
    FROM unnest($1::text[], $2::bigint[]) AS waiting (event, joined)
) AS waiting JOIN events ON events.id = event
"""


async def load_waiting_lists(connection: PooledConnection, reads: ReadSet, working_set: WorkingSet) -> set[str]:
    """Load the lines of the events in a working set, as far as it needs them, and the buyers in them into ``reads``.

    Returns the events that have changed since they were read, whose lines are missing.
    """
    budget = offer_budgets(reads, working_set.events, working_set)
    lines: dict[str, list[Booking]] = {event: [] for event in budget}
    # If nothing can be offered, nothing is read.
    unread = dict.fromkeys(budget, 1.0)
    changed = set()
    if any(budget.values()):
        for event, version, quantity, *row in await connection.fetch(_LINES, list(budget), list(budget.values())):
            unread[event] = math.inf if quantity is None else quantity
            if version != working_set.events[event].version:
                changed.add(event)
            elif row[0] is not None:
                booking = booking_of(row)
                lines[event].append(working_set.bookings.setdefault(booking.id, booking))
    working_set.waiting_lists = {
        event: WaitingList(waiting, budget[event], unread[event])
        for event, waiting in lines.items()
        if event not in changed
    }
    # Those whose turn comes must not have more than the limit by then.
    for booking in working_set.bookings.values():
        if booking.state == "waiting" and booking.buyer is not None:
            reads.buyers.setdefault(booking.event, set()).add(booking.buyer)
    return changed


async def load_positions(connection: PooledConnection, working_set: WorkingSet) -> bool:
    """Load the places in line of all bookings that wait. Returns False if an event has changed since it was read."""
    waiting = [booking for booking in working_set.bookings.values() if booking.state == "waiting"]
    if not waiting:
        return True
    versions = {booking.event: working_set.events[booking.event].version for booking in waiting}
    joined = [(booking.event, booking.version) for booking in waiting]
    rows = await connection.fetch(_POSITIONS, *zip(*joined, strict=True))
    positions = {(event, joined): position for event, now, joined, position in rows if now == versions[event]}
    for booking in waiting:
        if position := positions.get((booking.event, booking.version)):
            working_set.positions[booking.id] = position
    return len(working_set.positions) == len(waiting)
