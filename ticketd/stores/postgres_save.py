"""Saves what a batch changed, by one statement that is made of the parts which it needs."""

from collections.abc import Collection
from datetime import datetime
from functools import cache

import msgspec

from ticketd.books import Books
from ticketd.stores.postgres_link import Line
from ticketd.stores.rows import BOOKING_COLUMNS, EVENT_COLUMNS, TICKET_COLUMNS, Rows


def _as_it_is(time: datetime) -> datetime:
    return time


ROWS = Rows(_as_it_is, _as_it_is, _as_it_is, _as_it_is)

# Each part takes its rows as arrays, a column each.
_NEW_EVENTS = f"INSERT INTO events ({EVENT_COLUMNS}) SELECT * FROM rows"
_CHANGED_EVENTS = """
UPDATE events SET name = rows.name, date = rows.date, capacity = rows.capacity, available = rows.available,
    held = rows.held, sold = rows.sold, version = rows.version, sold_elsewhere = rows.sold_elsewhere,
    original = rows.original, changed = pg_current_xact_id()
FROM rows WHERE events.id = rows.id
"""
_NEW_BOOKINGS = f"INSERT INTO bookings ({BOOKING_COLUMNS}) SELECT * FROM rows"
_CHANGED_BOOKINGS = """
UPDATE bookings SET state = rows.state, tickets = rows.tickets, changes = rows.changes
FROM rows WHERE bookings.id = rows.id
"""
_NEW_TICKETS = f"INSERT INTO tickets ({TICKET_COLUMNS}) SELECT * FROM rows"
_CHANGED_TICKETS = """
UPDATE tickets SET state = rows.state, redeemed_at = rows.redeemed_at FROM rows WHERE tickets.id = rows.id
"""
_EXPIRED_BOOKINGS = """
UPDATE bookings SET state = 'expired', changes = rows.changes
FROM rows WHERE bookings.event = rows.event AND state = 'held' AND expires <= rows.now
"""
_MARK = """
INSERT INTO commits (line, batch) SELECT * FROM rows
ON CONFLICT (line) DO UPDATE SET batch = excluded.batch, at = excluded.at
"""
_EVENT_TYPES = "text text timestamptz int int int int bigint int jsonb"
_BOOKING_TYPES = "text text int text text int bigint int timestamptz jsonb"
_TICKET_TYPES = "text text text text timestamptz"
_COLUMNS = {
    _NEW_EVENTS: (EVENT_COLUMNS, _EVENT_TYPES),
    _CHANGED_EVENTS: (EVENT_COLUMNS, _EVENT_TYPES),
    _NEW_BOOKINGS: (BOOKING_COLUMNS, _BOOKING_TYPES),
    _CHANGED_BOOKINGS: (BOOKING_COLUMNS, _BOOKING_TYPES),
    _NEW_TICKETS: (TICKET_COLUMNS, _TICKET_TYPES),
    _CHANGED_TICKETS: (TICKET_COLUMNS, _TICKET_TYPES),
    _EXPIRED_BOOKINGS: ("event, changes, now", "text jsonb timestamptz"),
    _MARK: ("line, batch", "text text"),
}


@cache
def _save_statement(parts: tuple[str, ...]) -> str:
    """Return the statement that does these parts. Its parameters are the columns of their rows."""
    clauses: list[str] = []
    position = 0
    for number, part in enumerate(parts):
        names, types = _COLUMNS[part]
        arrays = ", ".join(f"${position + place}::{type}[]" for place, type in enumerate(types.split(), 1))
        position += len(types.split())
        clauses.append(f"rows_{number} ({names}) AS (SELECT * FROM unnest({arrays}))")
        clauses.append(f"part_{number} AS ({part.replace('FROM rows', f'FROM rows_{number} AS rows')})")
    return f"WITH {', '.join(clauses)} SELECT"


async def save(line: Line, books: Books, known: tuple[Collection[str], ...], batch: str) -> None:
    """Save what changed, and mark it as this batch. ``known`` are the ids of what was there before, of each kind."""
    parts: dict[str, list[tuple[object, ...]]] = {}
    kinds = (
        (map(ROWS.of_event, books.changed_events.values()), _NEW_EVENTS, _CHANGED_EVENTS),
        (map(ROWS.of_booking, books.changed_bookings.values()), _NEW_BOOKINGS, _CHANGED_BOOKINGS),
        (map(ROWS.of_ticket, books.changed_tickets.values()), _NEW_TICKETS, _CHANGED_TICKETS),
    )
    for (rows, new, changed), before in zip(kinds, known, strict=True):
        for row in rows:
            parts.setdefault(changed if row[0] in before else new, []).append(row)
    if books.expired:
        parts[_EXPIRED_BOOKINGS] = [
            (event, msgspec.json.encode([change]).decode(), books.now) for event, change in books.expired.items()
        ]
    parts[_MARK] = [(line.name, batch)]
    columns = (list(column) for rows in parts.values() for column in zip(*rows, strict=True))
    await line.execute(_save_statement(tuple(parts)), *columns)
