"""The ledger in PostgreSQL, which many daemons may share: one transaction for a batch, events locked in one order.

What PostgreSQL's documentation says, and this module relies on:

- In READ COMMITTED each statement sees what was committed before it began. So the events are locked first, in the order
  of their ids, and what is decided by is read after that: nobody else changes it before this transaction ends.
- ``synchronous_commit = on`` syncs the log at every commit.
- A connection that breaks during COMMIT does not tell what came of it, and the transaction may even be still under way.
  So each one marks a row of its connection: whoever gets at that row knows that it has ended, and by the mark, how.
  (``pg_xact_status`` cannot tell: after a crash the numbers of transactions that left no trace are given again.)
- A transaction with a number below ``pg_snapshot_xmin`` has ended: what it changed is seen, now and later. For the same
  reason that holds for as long as the connection does on which it was read.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar

import asyncpg

from ticketd.books import Books, LedgerRequest, Needs
from ticketd.model import Event
from ticketd.protocol import Book, Bookings, Hold, Reply, Show, Tickets
from ticketd.rules import decide_all
from ticketd.stores.base import (
    EPOCH,
    CannotOpenError,
    Committed,
    EventsLockedError,
    LedgerAwayError,
    More,
    OutcomeUnknownError,
    StorageFullError,
    nothing_more,
)
from ticketd.stores.postgres_link import CONFLICTS, TOLD_NOTHING, TRY_SECONDS_MAX, Line, Link
from ticketd.stores.postgres_load import EVENTS, events_of, load, seen_in
from ticketd.stores.postgres_sale import sale_of
from ticketd.stores.postgres_save import ROWS, save
from ticketd.stores.rows import EVENT_COLUMNS

log = logging.getLogger(__name__)

T = TypeVar("T")

COMMITS_AT_ONCE = 4
TRIES_MAX = 20
COMMIT_SECONDS_MAX = 2.0
ASK_AGAIN_SECONDS = 0.05
# When a great many holds run out at once, the database gets more time to end them; it ends 190,000 in a second.
HOLDS_PER_SECOND_MIN = 10_000
# Of others than those that a batch names. The next sweep goes on with the rest.
EVENTS_PER_SWEEP_MAX = 100


class _MovedError(Exception):
    """A booking or a ticket came up between two statements, of an event that is not locked."""


_LOCK_EVENTS = f"{EVENTS} ORDER BY id FOR UPDATE"
# Who holds the lock of one of these is at it already, or will find what is due.
_LOCK_DUE_EVENTS = f"""
SELECT {EVENT_COLUMNS} FROM events
WHERE id <> ALL($1::text[]) AND id IN (SELECT event FROM bookings WHERE state = 'held' AND expires <= now())
ORDER BY id LIMIT {EVENTS_PER_SWEEP_MAX} FOR UPDATE SKIP LOCKED
"""
_NEXT_EXPIRY = "SELECT min(expires) FROM bookings WHERE state = 'held' AND expires > $1"
_NEWS = f"""
SELECT clock_timestamp(), pg_snapshot_xmin(pg_current_snapshot())::text,
    (SELECT min(expires) FROM bookings WHERE state = 'held'), {EVENT_COLUMNS}
FROM (VALUES (1)) AS once LEFT JOIN events ON events.changed >= $1::text::xid8 ORDER BY number
"""
# Waits for a transaction that has marked this row, and returns the mark of the last one that was committed. The line is
# over then: see ``Sale``.
_END_LINE = """
INSERT INTO commits (line, at) VALUES ($1, '-infinity') ON CONFLICT (line) DO UPDATE SET at = excluded.at
RETURNING batch
"""


class PostgresStore:
    """The ledger in the database at ``url``; see ``open``.

    ``commit_seconds_max`` is how long it is tried to find out what came of a commit whose connection broke.
    """

    commits_at_once = COMMITS_AT_ONCE

    def __init__(self, link: Link, new_id: Callable[[], str], commit_seconds_max: float) -> None:
        self._link = link
        self.name = link.name
        self._new_id = new_id
        self._commit_seconds_max = commit_seconds_max
        self._loop = asyncio.get_running_loop()
        self.next_expiry: datetime | None = EPOCH
        # As they were when they were last seen; others may have changed them since.
        self._events: dict[str, Event] = {}
        # What the clock of the database showed when that of the loop was at 0.
        self._clock_began = EPOCH

    @classmethod
    async def open(cls, url: str, new_id: Callable[[], str], commit_seconds_max: float) -> "PostgresStore":
        """Return the ledger at ``url``, in tables that are made if there are none. Raises CannotOpenError."""
        link = Link(url)
        await link.open()
        return cls(link, new_id, commit_seconds_max)

    async def transact(self, requests: list[LedgerRequest], more: More = nothing_more) -> Committed:
        """See Store."""
        sweeping = self.next_expiry is not None and self.next_expiry <= self.now()
        reading = all(isinstance(request, (Show, Bookings, Tickets)) for request in requests)
        if reading and not sweeping and (answered := await self._read(requests)):
            return answered
        if not sweeping and (sold := await self._sell(requests)):
            return sold
        for _ in range(TRIES_MAX):
            try:
                return await self._transact(requests, more, sweeping)
            except (_MovedError, *CONFLICTS):
                continue
        raise LedgerAwayError(f"others changed the same {TRIES_MAX} times in the database {self._link.name}")

    async def read(self, request: LedgerRequest) -> Reply | None:
        """See Store."""
        answered = await self._read([request])
        return answered and answered.replies[0]

    def now(self) -> datetime:
        """See Store. It is the clock of the database."""
        return self._clock_began + timedelta(seconds=self._loop.time())

    async def events(self) -> list[Event]:
        """See Store."""
        try:
            async with self._link.lend() as line:
                line.told = TOLD_NOTHING
                return await self._news(line)
        except LedgerAwayError as error:
            raise CannotOpenError(str(error)) from error

    async def news(self) -> list[Event]:
        """See SharedStore."""
        async with self._link.lend() as line:
            return await self._news(line)

    async def tidy(self) -> None:
        """See Store. The database does its own housekeeping."""

    async def close(self) -> None:
        """See Store."""
        self._link.close()

    async def _news(self, line: Line) -> list[Event]:
        async with self._link.within(TRY_SECONDS_MAX):
            rows = await line.fetch(_NEWS, line.told)
        now, line.told, self.next_expiry = rows[0][:3]
        self._set_clock(now)
        events = [ROWS.event_of(row[3:]) for row in rows if row[3] is not None]
        self._events.update((event.id, event) for event in events)
        return events

    async def _read(self, requests: Sequence[LedgerRequest]) -> Committed | None:
        """Return what they came to by one snapshot, or None if they need a commit."""
        async with self._link.lend() as line, self._link.within(TRY_SECONDS_MAX):
            await line.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            needs = Needs(requests)
            needs.events.update(await events_of(line, needs))
            books = await load(line, needs, await line.fetch(EVENTS, list(needs.events)), self._new_id, self._set_clock)
            seen = await seen_in(line, books)
            replies = decide_all(books, requests)
            await line.execute("ROLLBACK")
        return None if books.changed else Committed(replies, seen, changed=False)

    async def _sell(self, requests: list[LedgerRequest]) -> Committed | None:
        """Return what a sale came to, or None if nothing was done: then there is the long way."""
        sale = sale_of(requests, self._events, self._new_id)
        if sale is None:
            return None
        batch = self._new_id()
        async with self._link.lend() as line:
            try:
                async with self._link.within(COMMIT_SECONDS_MAX):
                    sold = await sale.sell(line, batch)
            except (EventsLockedError, StorageFullError):
                raise
            except Exception:
                if await self._end(line) != batch:
                    raise
                # Nobody has heard by how much it was shifted.
                sold = await self._ask(sale.look_up)
        return sold and self._noted(sold)

    def _noted(self, committed: Committed) -> Committed:
        self._events.update((event.id, event) for event in committed.events)
        return committed

    async def _transact(self, requests: list[LedgerRequest], more: More, sweeping: bool) -> Committed:
        async with self._link.lend() as line:
            async with self._link.within(TRY_SECONDS_MAX):
                await line.execute("BEGIN")
                books = await self._lock_and_load(line, requests, more, sweeping)
                seen = await seen_in(line, books)
                known = (set(books.events), set(books.bookings), set(books.tickets))
                replies = decide_all(books, requests)
                if not books.changed:
                    await line.execute("ROLLBACK")
                    return self._noted(Committed(replies, seen, changed=False))
            due = sum(books.due.values())
            async with self._link.within(TRY_SECONDS_MAX + due / HOLDS_PER_SECOND_MIN):
                if due > HOLDS_PER_SECOND_MIN:
                    await line.execute(line.take_your_time)
                batch = self._new_id()
                await save(line, books, known, batch)
            await self._commit(line, batch)
        for booking in books.changed_bookings.values():
            if booking.state == "held" and booking.expires:
                self.next_expiry = min(booking.expires, self.next_expiry or booking.expires)
        return self._noted(Committed(replies, [*seen, *books.changed_events.values()], changed=True))

    async def _lock_and_load(self, line: Line, requests: list[LedgerRequest], more: More, sweeping: bool) -> Books:
        needs = Needs(requests)
        # Bookings and tickets stay with their event, so the events of those that are there can be locked at once.
        others = Needs(request for request in requests if not isinstance(request, (Book, Hold)))
        if others.bookings or others.tickets:
            needs.events.update(await events_of(line, others))
        events = await line.fetch(_LOCK_EVENTS, list(needs.events)) if needs.events else []
        if sweeping:
            events += (others_due := await line.fetch(_LOCK_DUE_EVENTS, list(needs.events)))
        # Others may have had the events until now.
        requests += more()
        locked, needs = needs.events, Needs(requests)
        books = await load(line, needs, events, self._new_id, self._set_clock)
        if sweeping and len(others_due) < EVENTS_PER_SWEEP_MAX:
            self.next_expiry = await line.fetchval(_NEXT_EXPIRY, books.now)
        named = {books.bookings[id].event for id in others.bookings if id in books.bookings}
        named.update(ticket.event for ticket in books.tickets.values())
        if not needs.events <= locked or not named <= books.events.keys():
            raise _MovedError
        return books

    async def _commit(self, line: Line, batch: str) -> None:
        try:
            async with self._link.within(COMMIT_SECONDS_MAX):
                await line.execute("COMMIT")
        except Exception:
            if await self._end(line) != batch:
                raise

    async def _end(self, line: Line) -> str | None:
        """End a line that broke, for good; return the mark of the last batch that was committed on it.

        Raises OutcomeUnknownError.
        """
        log.warning("a commit broke off; finding out what came of it")
        line.terminate()

        async def ended(another: Line) -> str | None:
            mark: str | None = await another.fetchval(_END_LINE, line.name)
            return mark

        return await self._ask(ended)

    async def _ask(self, question: Callable[[Line], Awaitable[T]]) -> T:
        """Return what some line answers. Raises OutcomeUnknownError if none does for ``commit_seconds_max``."""
        deadline = self._loop.time() + self._commit_seconds_max
        while self._loop.time() < deadline:
            # Whatever is the matter, it is no answer.
            with suppress(LedgerAwayError, EventsLockedError, StorageFullError, asyncpg.PostgresError):
                async with self._link.lend() as line, self._link.within(TRY_SECONDS_MAX):
                    return await question(line)
            await asyncio.sleep(ASK_AGAIN_SECONDS)
        raise OutcomeUnknownError(
            f"the database {self._link.name} did not tell within {self._commit_seconds_max:g} s what came of a commit"
        )

    def _set_clock(self, now: datetime) -> None:
        self._clock_began = now - timedelta(seconds=self._loop.time())
