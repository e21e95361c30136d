"""Fills the books of a batch from PostgreSQL. Its events are there already: locked, or read in the same snapshot."""

from collections.abc import Callable, Iterable
from datetime import datetime

import asyncpg
from msgspec import UNSET

from ticketd.books import Books, Needs
from ticketd.model import Booking, Event, Ticket
from ticketd.protocol import Bookings, Tickets
from ticketd.stores.base import EPOCH
from ticketd.stores.postgres_link import Line
from ticketd.stores.postgres_save import ROWS
from ticketd.stores.rows import BOOKING_COLUMNS, EVENT_COLUMNS, TICKET_COLUMNS

_EVENTS_OF = """
SELECT event FROM bookings WHERE id = ANY($1::text[]) UNION SELECT event FROM tickets WHERE id = ANY($2::text[])
"""
EVENTS = f"SELECT {EVENT_COLUMNS} FROM events WHERE id = ANY($1::text[])"
_BOOKINGS = f"""
SELECT clock_timestamp(), {", ".join(f"bookings.{column}" for column in BOOKING_COLUMNS.split(", "))}
FROM (VALUES (1)) AS once LEFT JOIN bookings ON bookings.id = ANY($1::text[])
"""
_TICKETS = f"SELECT {TICKET_COLUMNS} FROM tickets WHERE id = ANY($1::text[])"
_PAGE_OF_BOOKINGS = f"SELECT {BOOKING_COLUMNS} FROM bookings WHERE id > $1 ORDER BY id LIMIT $2"
_PAGE_OF_TICKETS = f"SELECT {TICKET_COLUMNS} FROM tickets WHERE id > $1 ORDER BY id LIMIT $2"
_DUE = """
SELECT event, sum(quantity) AS quantity FROM bookings
WHERE state = 'held' AND expires <= $1 AND event = ANY($2::text[]) GROUP BY event
"""


async def events_of(line: Line, needs: Needs) -> list[str]:
    """Return the events of the bookings and tickets that are needed and there."""
    rows = await line.fetch(_EVENTS_OF, list(needs.bookings), list(needs.tickets))
    return [event for [event] in rows]


async def load(
    line: Line,
    needs: Needs,
    events: Iterable[asyncpg.Record],
    new_id: Callable[[], str],
    tell: Callable[[datetime], None],
) -> Books:
    """Return books of these rows of events, and of whatever else of the needs is there.

    ``tell`` is told the time of the database, by which they are decided.
    """
    books = Books(new_id, EPOCH)
    for row in events:
        books.events[row[0]] = ROWS.event_of(row)
    await _load_tickets(line, books, needs.tickets)
    needs.bookings |= {ticket.booking for ticket in books.tickets.values()}
    bookings = await line.fetch(_BOOKINGS, list(needs.bookings))
    now = bookings[0][0]
    tell(now)
    books.now = now.replace(microsecond=now.microsecond // 1_000 * 1_000)
    for row in bookings:
        if row["id"] is not None:
            books.bookings[row["id"]] = ROWS.booking_of(row[1:])
    if holding := [event.id for event in books.events.values() if event.held]:
        books.due = {row["event"]: row["quantity"] for row in await line.fetch(_DUE, books.now, holding)}
    of_bookings = [books.bookings[id].tickets for id in needs.with_tickets if id in books.bookings]
    more = {ticket for tickets in of_bookings for ticket in tickets} - books.tickets.keys()
    await _load_tickets(line, books, more)
    for page in needs.pages:
        books.pages.append(await _page(line, page))
    return books


async def seen_in(line: Line, books: Books) -> list[Event]:
    """Return all events that the books tell of."""
    in_pages = {item.event for page in books.pages for item in page} - books.events.keys()
    rows = await line.fetch(EVENTS, list(in_pages)) if in_pages else []
    return [*books.events.values(), *map(ROWS.event_of, rows)]


async def _load_tickets(line: Line, books: Books, ids: Iterable[str]) -> None:
    if ids:
        for row in await line.fetch(_TICKETS, list(ids)):
            books.tickets[row[0]] = ROWS.ticket_of(row)


async def _page(line: Line, page: Bookings | Tickets) -> list[Booking] | list[Ticket]:
    after = "" if page.after is UNSET else page.after
    if isinstance(page, Bookings):
        return [ROWS.booking_of(row) for row in await line.fetch(_PAGE_OF_BOOKINGS, after, page.limit)]
    return [ROWS.ticket_of(row) for row in await line.fetch(_PAGE_OF_TICKETS, after, page.limit)]
