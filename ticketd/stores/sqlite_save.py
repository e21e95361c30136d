"""What a batch changed, as one statement: SQLite saves and commits it while Python goes on.

Each statement takes the interpreter's lock, and a busy loop lets go of it late. So everything that a batch changed is
one row, in columns of JSON, of a view; its trigger puts that into the tables; and the transaction is the statement's
own. It costs a little more work than to bind each row, but not the loop's.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from ticketd.books import Books
from ticketd.stores.rows import BOOKING_COLUMNS, EVENT_COLUMNS, TICKET_COLUMNS, Rows


def milliseconds(time: datetime) -> int:
    """Return a time as milliseconds since 1970 in UTC."""
    return round(time.timestamp() * 1_000)


def time_of(count: int) -> datetime:
    """Return the time that so many milliseconds stand for."""
    return datetime.fromtimestamp(count / 1_000, UTC)


ROWS = Rows(datetime.fromisoformat, datetime.isoformat, time_of, milliseconds)


def _rows_of(table: str, columns: str) -> str:
    values = ", ".join(f"value ->> {position}" for position in range(columns.count(",") + 1))
    return f"INSERT INTO {table} ({columns}) SELECT {values} FROM json_each(NEW.{table}) WHERE true"


# To be run once for each connection. What a conflict does not change never changes. The limit makes a table of what has
# expired, with an index: without, all of it would be read for each of the holds that are due.
SETUP = f"""
CREATE TEMP VIEW batch (events, bookings, tickets, expired, now, commits, folded) AS SELECT 0, 0, 0, 0, 0, 0, 0;
CREATE TEMP TRIGGER save_batch INSTEAD OF INSERT ON batch BEGIN
{_rows_of("events", EVENT_COLUMNS)}
ON CONFLICT (id) DO UPDATE SET name = excluded.name, date = excluded.date, capacity = excluded.capacity,
    available = excluded.available, held = excluded.held, sold = excluded.sold, version = excluded.version,
    sold_elsewhere = excluded.sold_elsewhere, original = excluded.original;
{_rows_of("bookings", BOOKING_COLUMNS)}
ON CONFLICT (id) DO UPDATE SET state = excluded.state, tickets = excluded.tickets, changes = excluded.changes;
{_rows_of("tickets", TICKET_COLUMNS)}
ON CONFLICT (id) DO UPDATE SET state = excluded.state, redeemed_at = excluded.redeemed_at;
UPDATE bookings SET state = 'expired', changes = change.value
FROM (SELECT key, value FROM json_each(NEW.expired) LIMIT -1) AS change
WHERE state = 'held' AND expires <= NEW.now AND bookings.event = change.key;
UPDATE ledger SET commits = NEW.commits, folded = NEW.folded;
END;
"""
SAVE = "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?)"


def parameters(books: Books, commits: int, folded: int) -> tuple[Any, ...]:
    """Return the parameters of SAVE: ``commits`` is how many there will have been, ``folded`` those in the file."""
    expired = {event: [change] for event, change in books.expired.items()}
    return (
        _json(map(ROWS.of_event, books.changed_events.values())),
        _json(map(ROWS.of_booking, books.changed_bookings.values())),
        _json(map(ROWS.of_ticket, books.changed_tickets.values())),
        msgspec.json.encode(expired).decode(),
        milliseconds(books.now) if expired else None,
        commits,
        folded,
    )


def _json(rows: Iterable[tuple[Any, ...]]) -> str:
    return msgspec.json.encode(list(rows)).decode()
