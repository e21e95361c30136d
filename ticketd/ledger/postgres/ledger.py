"""Owns the ledger in PostgreSQL, which many daemons may share: one transaction per batch.

Facts from PostgreSQL's documentation that this depends on (https://www.postgresql.org/docs/current/):

- In READ COMMITTED, each statement sees what was committed before it began. So a batch first locks its events, in the
  order of their ids, and then reads what it decides on: no other transaction can change that before this one ends.
- ``synchronous_commit = on`` syncs the log at every commit.
- If a connection breaks during COMMIT, the outcome is unknown, and the transaction may not even have ended. So each
  transaction writes the id of its batch into the row of its connection in ``commits``. When another connection gets the
  lock of that row, the transaction has ended, and the row shows whether it was committed. (``pg_xact_status`` does not:
  after a crash, PostgreSQL reuses the numbers of transactions that left no trace.)
- A transaction with a number below ``pg_snapshot_xmin`` has ended, so its changes are visible, now and later. Since
  numbers are reused after a crash, a value is only valid on the connection on which it was read.
"""

import asyncio
import math
from collections.abc import Iterable, Sequence

from ticketd.ids import new_id
from ticketd.ledger.base import (
    Answers,
    CannotOpenError,
    Done,
    EventsLockedError,
    LedgerUnavailableError,
    StorageFullError,
)
from ticketd.ledger.postgres.load import BEGAN, LOCK_EVENTS, NOW, load, load_committed, part_of
from ticketd.ledger.postgres.outcomes import Outcomes
from ticketd.ledger.postgres.pool import CONFLICTS, TRY_SECONDS_MAX, XMIN_START, Pool, PooledConnection
from ticketd.ledger.postgres.reads import Reads
from ticketd.ledger.postgres.sale import sale_of
from ticketd.ledger.postgres.save import save
from ticketd.ledger.postgres.tasks import Tasks
from ticketd.ledger.rows import EVENT_COLUMNS, event_of
from ticketd.model import Booking, Event
from ticketd.rules.commands import decide_all, read_set
from ticketd.rules.working_set import LedgerRequest, WorkingSet
from ticketd.wire.replies import Reply
from ticketd.wire.requests import Request

COMMITS_AT_ONCE = 4
HOLDS_REMEMBERED_MAX = 50_000
TRIES_MAX = 20
COMMIT_SECONDS_MAX = 2.0
# A batch that ends many holds gets one second more for every 10,000. PostgreSQL ended 190,000 per second in tests.
HOLDS_PER_SECOND_MIN = 10_000
# A sweep ends due holds of any event. It locks up to this many events besides those of the batch.
EVENTS_PER_SWEEP_MAX = 100


class _EventNotLockedError(Exception):
    """Another daemon has just created a booking of the batch, and its event is not locked. Nothing was done."""


# Skips locked events: the daemon that has locked one ends its holds.
_LOCK_DUE_EVENTS = f"""
SELECT {EVENT_COLUMNS} FROM events
WHERE id <> ALL($1::text[]) AND id IN (SELECT event FROM bookings WHERE state = 'held' AND expires <= {BEGAN})
ORDER BY id LIMIT {EVENTS_PER_SWEEP_MAX} FOR UPDATE SKIP LOCKED
"""
_NEXT_EXPIRY = "SELECT min(expires) FROM bookings WHERE state = 'held' AND expires > $1"
_NEWS = f"""
SELECT {NOW}, pg_snapshot_xmin(pg_current_snapshot())::text,
    (SELECT min(expires) FROM bookings WHERE state = 'held'), {EVENT_COLUMNS}
FROM (VALUES (1)) AS once LEFT JOIN events ON events.changed >= $1::text::xid8 ORDER BY number
"""


class PostgresLedger:
    """The ledger in the database of ``pool``; see ``open``.

    ``commit_seconds_max`` is how long it tries to find out the outcome of a commit whose connection broke.
    ``events_max`` is how many events there may be. Events that are being created at the same time are not counted, so
    there may be a few more.
    """

    commits_at_once = COMMITS_AT_ONCE

    def __init__(self, pool: Pool, commit_seconds_max: float, events_max: float = math.inf) -> None:
        self._pool = pool
        self._events_max = events_max
        self.name = pool.name
        self._outcomes = Outcomes(pool, commit_seconds_max)
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._reads = Reads(pool, self._tasks)
        # Not known yet. With 0, the first batch sweeps.
        self.next_expiry: int | None = 0
        # The events as they were last read. Other daemons may have changed them since.
        self._events: dict[str, Event] = {}
        # The event and quantity of each booking that this daemon held last, by booking.
        self._holds: dict[str, tuple[str, int]] = {}
        # The time of the database when the loop's clock was 0, in milliseconds since 1970.
        self._clock_began = 0.0

    @classmethod
    async def open(cls, url: str, commit_seconds_max: float, events_max: float = math.inf) -> "PostgresLedger":
        """Return the ledger at ``url``, and create its tables if there are none. Raises CannotOpenError."""
        pool = Pool(url)
        await pool.open()
        return cls(pool, commit_seconds_max, events_max)

    def transact(self, requests: list[LedgerRequest], done: Done) -> None:
        """See Ledger."""
        self._tasks.run(self._commit(requests), done)

    def without_commit(self, requests: Sequence[LedgerRequest], refusal: Reply, done: Done) -> None:
        """See Ledger."""
        self._tasks.run(self._decide_without_commit(requests, refusal), done)

    @property
    def can_read(self) -> bool:
        """See Ledger."""
        return self._reads.can_read

    def read(self, requests: Sequence[Request], done: Done) -> None:
        """See Ledger."""
        self._reads.read(requests, done)

    def held(self, booking: str) -> tuple[str, int] | None:
        """See Ledger. Known for the last HOLDS_REMEMBERED_MAX holds of this daemon."""
        return self._holds.get(booking)

    def now(self) -> int:
        """See Ledger. It is the clock of the database."""
        return int(self._clock_began + self._loop.time() * 1_000)

    async def events(self) -> list[Event]:
        """See Ledger."""
        try:
            async with self._pool.lend() as connection:
                connection.seen_xmin = XMIN_START
                return await self._news(connection)
        except LedgerUnavailableError as error:
            raise CannotOpenError(str(error)) from error

    async def fetch_changes(self) -> list[Event]:
        """See SharedLedger."""
        async with self._pool.lend() as connection:
            return await self._news(connection)

    async def close(self) -> None:
        """See Ledger."""
        await self._tasks.wait()
        self._pool.close()

    async def _news(self, connection: PooledConnection) -> list[Event]:
        async with self._pool.within(TRY_SECONDS_MAX):
            rows = await connection.fetch(_NEWS, connection.seen_xmin)
        now, connection.seen_xmin, self.next_expiry = rows[0][:3]
        self._set_clock(now)
        events = [event_of(row[3:]) for row in rows if row[3] is not None]
        self._events.update((event.id, event) for event in events)
        return events

    async def _decide_without_commit(self, requests: Sequence[LedgerRequest], refusal: Reply) -> Answers:
        async with self._pool.lend() as connection, self._pool.within(TRY_SECONDS_MAX):
            committed = await load_committed(connection, read_set(requests))
        replies: list[Reply] = []
        for request in requests:
            part = part_of(committed, read_set([request]))
            [reply] = decide_all(part, [request])
            replies.append(refusal if part.changed else reply)
        return Answers(replies, list(committed.events.values()))

    async def _commit(self, requests: list[LedgerRequest]) -> Answers:
        sweeping = not requests or (self.next_expiry is not None and self.next_expiry <= self.now())
        if not sweeping and (answers := await self._sell(requests)):
            return answers
        for _ in range(TRIES_MAX):
            try:
                return await self._transact(requests, sweeping=sweeping)
            except (_EventNotLockedError, *CONFLICTS):
                continue
        raise LedgerUnavailableError(
            f"gave up after {TRIES_MAX} tries: others keep changing the same rows in the database {self._pool.name}"
        )

    async def _sell(self, requests: list[LedgerRequest]) -> Answers | None:
        """Commit the requests as a ``Sale``. Returns None if that is not possible; then nothing was done."""
        sale = sale_of(requests, self._events)
        if sale is None:
            return None
        batch = new_id()
        async with self._pool.lend() as connection:
            try:
                async with self._pool.within(COMMIT_SECONDS_MAX):
                    answers = await sale.sell(connection, batch)
            except (EventsLockedError, StorageFullError):
                raise
            except Exception:
                if await self._outcomes.last_batch(connection) != batch:
                    raise
                # Committed, but the result was lost with the connection.
                answers = await self._outcomes.retry(sale.look_up)
        return answers and self._remember(answers)

    async def _transact(self, requests: list[LedgerRequest], *, sweeping: bool) -> Answers:
        async with self._pool.lend() as connection:
            async with self._pool.within(TRY_SECONDS_MAX):
                await connection.execute("BEGIN")
                working_set = await self._lock_and_load(connection, requests, sweeping=sweeping)
                before = (set(working_set.events), set(working_set.bookings))
                replies = decide_all(working_set, requests)
                if not working_set.changed:
                    await connection.execute("ROLLBACK")
                    return self._remember(Answers(replies, list(working_set.events.values()), changed=False))
            due = sum(working_set.due.values())
            async with self._pool.within(TRY_SECONDS_MAX + due / HOLDS_PER_SECOND_MIN):
                if due > HOLDS_PER_SECOND_MIN:
                    await connection.execute(connection.lift_timeouts)
                batch = new_id()
                await save(connection, working_set, *before, batch)
            await self._end_transaction(connection, batch)
        self._remember_holds(working_set.changed_bookings.values())
        return self._remember(Answers(replies, list(working_set.events.values()), changed=True))

    async def _lock_and_load(
        self, connection: PooledConnection, requests: list[LedgerRequest], *, sweeping: bool
    ) -> WorkingSet:
        reads = read_set(requests)
        events = await connection.fetch(LOCK_EVENTS, list(reads.events), list(reads.bookings)) if requests else []
        if sweeping:
            due_events = await connection.fetch(_LOCK_DUE_EVENTS, [row[0] for row in events])
            events += due_events
        working_set = await load(connection, reads, events)
        working_set.events_left = self._events_max - len(self._events)
        self._set_clock(working_set.now)
        if sweeping and len(due_events) < EVENTS_PER_SWEEP_MAX:
            self.next_expiry = await connection.fetchval(_NEXT_EXPIRY, working_set.now)
        bookings = working_set.bookings
        if not all(bookings[id].event in working_set.events for id in reads.bookings if id in bookings):
            raise _EventNotLockedError
        return working_set

    async def _end_transaction(self, connection: PooledConnection, batch: str) -> None:
        try:
            async with self._pool.within(COMMIT_SECONDS_MAX):
                await connection.execute("COMMIT")
        except Exception:
            if await self._outcomes.last_batch(connection) != batch:
                raise

    def _remember(self, committed: Answers) -> Answers:
        self._events.update((event.id, event) for event in committed.events)
        return committed

    def _remember_holds(self, bookings: Iterable[Booking]) -> None:
        for booking in bookings:
            self._holds.pop(booking.id, None)
            if booking.state == "held" and booking.expires is not None:
                self._holds[booking.id] = (booking.event, booking.quantity)
                self.next_expiry = min(booking.expires, self.next_expiry or booking.expires)
        while len(self._holds) > HOLDS_REMEMBERED_MAX:
            del self._holds[next(iter(self._holds))]

    def _set_clock(self, now: int) -> None:
        self._clock_began = now - self._loop.time() * 1_000
