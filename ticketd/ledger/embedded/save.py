"""Saves the changes of a batch by one statement, which is its own transaction: SQLite saves, commits and syncs it.

After each statement, a thread waits for the interpreter's lock, which a busy loop releases late. So there is only one:
it inserts one row, with columns of JSON, into a view, and a trigger of the view writes the tables.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from ticketd.ledger.embedded.schema import STILL
from ticketd.ledger.rows import BOOKING_COLUMNS, EVENT_COLUMNS, REDEMPTION_COLUMNS
from ticketd.rules.working_set import WorkingSet

# Each column that is read from JSON costs time. Most bookings are new, and have nothing in the other columns.
_PLAIN_COLUMNS = "id, event, quantity, tickets, available, version, booked_at, buyer, actor"
_PLAIN_PLACES = [BOOKING_COLUMNS.split(", ").index(column) for column in _PLAIN_COLUMNS.split(", ")]


def _values(places: Iterable[int]) -> str:
    return ", ".join(f"value ->> {place}" for place in places)


def _insert(table: str, columns: str) -> str:
    values = _values(range(columns.count(",") + 1))
    return f"INSERT INTO {table} ({columns}) SELECT {values} FROM json_each(NEW.{table}) WHERE true"


# To be run once for each connection. `events` are those that are new or were amended; of the others, `counts` change.
# Columns that ON CONFLICT does not set never change. The LIMIT makes SQLite build an indexed table of the expired
# events; without it, the JSON would be parsed again for each due hold.
SETUP = f"""
CREATE TEMP VIEW batch (counts, events, plain, bookings, redemptions, removals, expired, now, commits, total, folded) AS
SELECT 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0;
CREATE TEMP TRIGGER save_batch INSTEAD OF INSERT ON batch BEGIN
DELETE FROM events WHERE NEW.removals IS NOT NULL AND id IN (SELECT value FROM json_each(NEW.removals));
INSERT INTO removals SELECT value FROM json_each(NEW.removals) WHERE true ON CONFLICT DO NOTHING;
UPDATE events SET available = moved.value ->> 1, held = moved.value ->> 2, sold = moved.value ->> 3,
    version = moved.value ->> 4, waiting = moved.value ->> 5
FROM json_each(NEW.counts) AS moved WHERE events.id = moved.value ->> 0;
{_insert("events", EVENT_COLUMNS)}
ON CONFLICT (id) DO UPDATE SET name = excluded.name, date = excluded.date, capacity = excluded.capacity,
    available = excluded.available, held = excluded.held, sold = excluded.sold, version = excluded.version,
    opens = excluded.opens, closes = excluded.closes, paused = excluded.paused, per_buyer = excluded.per_buyer,
    amendments = excluded.amendments, original = excluded.original, waiting = excluded.waiting;
INSERT INTO bookings ({_PLAIN_COLUMNS}, state) SELECT {_values(_PLAIN_PLACES)}, 'confirmed'
FROM json_each(NEW.plain) WHERE true;
{_insert("bookings", BOOKING_COLUMNS)}
ON CONFLICT (id) DO UPDATE SET state = excluded.state, tickets = excluded.tickets, expires = excluded.expires,
    changes = excluded.changes;
{_insert("redemptions", REDEMPTION_COLUMNS)};
UPDATE bookings SET state = 'expired', changes = json_insert(ifnull(changes, '[]'), '$[#]', json(change.value))
FROM (SELECT key, value FROM json_each(NEW.expired) LIMIT -1) AS change
WHERE NEW.now IS NOT NULL AND state = 'held' AND expires <= NEW.now AND bookings.event = change.key;
UPDATE ledger SET commits = NEW.commits, total = NEW.total, folded = NEW.folded;
END;
"""
SAVE = "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

_encode = msgspec.json.Encoder().encode


def total_of(working_set: WorkingSet) -> int:
    """Return what the content of a working set adds to the total of the ledger (see ``schema``)."""
    versions = sum([event.version for event in working_set.events.values()])
    bookings = working_set.bookings.values()
    still = sum([each.what in STILL for booking in bookings if booking.changes for each in booking.changes])
    others = len(working_set.new_redemptions) + len(working_set.removed)
    return len(working_set.events) + versions + len(bookings) + still + others


def parameters(working_set: WorkingSet, commits: int, total: int) -> tuple[Any, ...]:
    """Return all parameters of SAVE but the last, which is the number of commits in the file without its log.

    ``commits`` is the number of commits, and ``total`` the total of the ledger, both including this one.
    """
    expired = working_set.expired
    bookings = working_set.changed_bookings.values()
    plain = [booking for booking in bookings if booking.is_plain]
    others = [] if len(plain) == len(bookings) else [booking for booking in bookings if not booking.is_plain]
    events, terms = working_set.changed_events.values(), working_set.changed_terms
    counts = [
        (event.id, event.available, event.held, event.sold, event.version, event.waiting)
        for event in events
        if event.id not in terms
    ]
    return (
        _encode(counts).decode(),
        _encode([event for event in events if event.id in terms]).decode() if terms else "[]",
        _encode(plain).decode(),
        _encode(others).decode(),
        _encode(working_set.new_redemptions).decode() if working_set.new_redemptions else "[]",
        _encode(list(working_set.deleted_events)).decode() if working_set.deleted_events else None,
        _encode(expired).decode() if expired else "{}",
        working_set.now if expired else None,
        commits,
        total,
    )
