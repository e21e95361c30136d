"""Owns the ledger in PostgreSQL, which many daemons may share: one statement per batch.

A batch that names bookings, other than holds of this daemon, begins with one statement that reads them. The rules
decide on what was read, or else on the events as they were last seen. Then one statement saves the changes and commits,
if what was decided still holds (see ``function``). Otherwise nothing is done, and the batch is read and decided again.
So a batch usually takes one or two round trips.

Facts from PostgreSQL's documentation that this depends on (https://www.postgresql.org/docs/current/):

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
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from ticketd.ids import new_id
from ticketd.ledger.base import (
    Answers,
    CannotOpenError,
    Changes,
    Done,
    EventsLockedError,
    LedgerUnavailableError,
    OutcomeUnknownError,
    StorageFullError,
)
from ticketd.ledger.postgres.changes import Looks
from ticketd.ledger.postgres.connection import XMIN_START, PooledConnection, is_refusal
from ticketd.ledger.postgres.known import Known
from ticketd.ledger.postgres.load import load, load_committed, load_due, lock, part_of
from ticketd.ledger.postgres.outcomes import Outcomes
from ticketd.ledger.postgres.pool import TRY_SECONDS_MAX, Pool
from ticketd.ledger.postgres.reads import Reads
from ticketd.ledger.postgres.save import Batch
from ticketd.ledger.tasks import Tasks
from ticketd.model import HOLD_SECONDS_TOTAL_MAX_DEFAULT, Event
from ticketd.rules.commands import decide_all, read_set
from ticketd.rules.working_set import LedgerRequest, WorkingSet
from ticketd.wire.replies import Reply

# The names of those who sent requests, if any are known.
Actors = Sequence[str | None] | None

COMMITS_AT_ONCE = 4
TRIES_MAX = 20
# After these, the events of a batch are locked before it is decided, since others keep changing them meanwhile.
TRIES_WITHOUT_LOCKS = 3
COMMIT_SECONDS_MAX = 2.0
SWEEP_SECONDS_MAX = 5.0
# A batch that ends due holds gets one second more for every 10,000. Their tickets are counted, and a hold has one at
# least. PostgreSQL ended 190,000 holds per second in tests.
HOLDS_PER_SECOND_MIN = 10_000
# A sweep ends due holds of up to this many events.
EVENTS_PER_SWEEP_MAX = 100


class PostgresLedger:
    """The ledger in the database of ``pool``; see ``open``.

    ``commit_seconds_max`` is how long it tries to find out the outcome of a commit whose connection broke.
    ``events_max`` is how many events there may be. Events that are being created at the same time are not counted, so
    there may be a few more. ``hold_seconds_total_max`` is how long a hold may last in all.
    """

    commits_at_once = COMMITS_AT_ONCE

    def __init__(
        self,
        pool: Pool,
        commit_seconds_max: float,
        events_max: float = math.inf,
        hold_seconds_total_max: int = HOLD_SECONDS_TOTAL_MAX_DEFAULT,
    ) -> None:
        self._pool = pool
        self._events_max = events_max
        self._hold_seconds_total_max = hold_seconds_total_max
        self.name = pool.name
        self._outcomes = Outcomes(pool, commit_seconds_max)
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        # Not known yet. With 0, the first batch sweeps.
        self.next_expiry: int | None = 0
        self._known = Known()
        self._looks = Looks(pool, self._known)
        self._reads = Reads(pool, self._tasks, self._looks)
        # The time of the database when the loop's clock was 0, in milliseconds since 1970.
        self._clock_began = 0.0

    @classmethod
    async def open(
        cls,
        url: str,
        commit_seconds_max: float,
        events_max: float = math.inf,
        hold_seconds_total_max: int = HOLD_SECONDS_TOTAL_MAX_DEFAULT,
    ) -> "PostgresLedger":
        """Return the ledger at ``url``, and create its tables if there are none. Raises CannotOpenError."""
        pool = Pool(url)
        await pool.open()
        return cls(pool, commit_seconds_max, events_max, hold_seconds_total_max)

    def transact(self, requests: list[LedgerRequest], done: Done, actors: Sequence[str | None] | None = None) -> None:
        """See Ledger."""
        self._tasks.run(self._commit(requests, actors), done)

    def without_commit(self, requests: Sequence[LedgerRequest], refusal: Reply, done: Done) -> None:
        """See Ledger."""
        self._tasks.run(self._decide_without_commit(requests, refusal), done)

    @property
    def can_read(self) -> bool:
        """See Ledger."""
        return self._reads.can_read

    def read(self, requests: Sequence[LedgerRequest], done: Done) -> None:
        """See Ledger."""
        self._reads.read(requests, done)

    def held(self, booking: str) -> tuple[str, int] | None:
        """See Ledger. Known for the last holds of this daemon."""
        return self._known.held(booking)

    def now(self) -> int:
        """See Ledger. It is the clock of the database."""
        return int(self._clock_began + self._loop.time() * 1_000)

    async def events(self) -> list[Event]:
        """See Ledger."""
        try:
            async with self._pool.lend() as connection:
                connection.seen_xmin = XMIN_START
                return list((await self._look(connection)).events)
        except LedgerUnavailableError as error:
            raise CannotOpenError(str(error)) from error

    async def fetch_changes(self) -> Changes:
        """See SharedLedger."""
        async with self._pool.lend() as connection:
            return await self._look(connection)

    async def close(self) -> None:
        """See Ledger."""
        await self._tasks.wait()
        self._pool.close()

    async def _look(self, connection: PooledConnection) -> Changes:
        look = await self._looks.look(connection)
        self.next_expiry = look.next_expiry
        # Its clock is right from now on.
        self._clock_began = look.now - self._loop.time() * 1_000
        return look.changes

    async def _decide_without_commit(self, requests: Sequence[LedgerRequest], refusal: Reply) -> Answers:
        async with self._pool.lend() as connection, self._pool.within(TRY_SECONDS_MAX):
            await self._pool.sync(connection)
            committed = await load_committed(connection, read_set(requests))
        self._looks.note_shown(committed.events.values())
        committed.hold_seconds_total_max = self._hold_seconds_total_max
        replies: list[Reply] = []
        for request in requests:
            part = part_of(committed, read_set([request]))
            [reply] = decide_all(part, [request])
            replies.append(refusal if part.changed else reply)
        return Answers(replies, list(committed.events.values()))

    async def _commit(self, requests: list[LedgerRequest], actors: Actors) -> Answers:
        await self._pool.check_no_commit_hangs()
        swept = Answers(())
        if not requests or (self.next_expiry is not None and self.next_expiry <= self.now()):
            try:
                swept = await self._sweep()
            except OutcomeUnknownError as error:
                # What became of the holds is unknown, but for the requests nothing was done yet.
                raise LedgerUnavailableError(str(error)) from error
        answers = await self._answer(requests, actors) if requests else Answers(())
        # An event of both is shown as it is after the requests.
        events = {event.id: event for event in (*swept.events, *answers.events)}
        changed = answers.changed or bool(swept.events)
        return Answers(
            answers.replies,
            list(events.values()),
            changed=changed,
            removed=answers.removed,
            expired=Counter(swept.expired) + Counter(answers.expired),
            offered=[*swept.offered, *answers.offered],
            evicted=[*swept.evicted, *answers.evicted],
        )

    async def _sweep(self) -> Answers:
        """End the due holds of up to EVENTS_PER_SWEEP_MAX events, offer what is available to those who wait in line,
        and return the events, without replies.
        """
        # If an event is locked or has changed, another daemon ends its due holds.
        with suppress(EventsLockedError):
            async with self._pool.lend() as connection:
                async with self._pool.within(SWEEP_SECONDS_MAX):
                    due, next_expiry = await load_due(connection, EVENTS_PER_SWEEP_MAX)
                self.next_expiry = next_expiry
                batch = Batch(due, [])
                if batch.changed and await self._save(batch, connection):
                    return self._remember(batch)
        return Answers(())

    async def _answer(self, requests: list[LedgerRequest], actors: Actors) -> Answers:
        """Decide the requests on what is known, and save the changes. If that does not hold, load and try again."""
        batch = self._decide_on_known(requests, actors)
        locks: list[str] = []
        for tries in range(1, TRIES_MAX + 1):
            async with self._pool.lend() as connection:
                if batch is None:
                    async with self._pool.within(TRY_SECONDS_MAX):
                        if locks:
                            await lock(connection, locks)
                        batch = self._decide(await load(connection, read_set(requests)), requests, actors)
                saved = await self._save(batch, connection) if batch.changed else await self._end(connection)
                if saved:
                    return self._remember(batch)
            # Of an event with a line nothing may have changed meanwhile, and in a crowd something always has.
            if tries >= TRIES_WITHOUT_LOCKS or batch.has_waiting_lists:
                locks = [event.id for event in batch.answers.events]
            batch = None
        raise LedgerUnavailableError(
            f"gave up after {TRIES_MAX} tries: others keep changing the same rows in the database {self._pool.name}"
        )

    async def _end(self, connection: PooledConnection) -> bool:
        """End a batch that changes nothing. Returns True."""
        async with self._pool.within(COMMIT_SECONDS_MAX):
            if connection.is_in_transaction():
                await connection.execute("ROLLBACK")
            await self._pool.sync(connection)
        return True

    def _decide_on_known(self, requests: list[LedgerRequest], actors: Actors) -> Batch | None:
        """Return the batch decided on events as they were last seen, and own holds; None if it needs more than that."""
        working_set = self._known.working_set(read_set(requests), self.now())
        if working_set is None:
            return None
        batch = self._decide(working_set, requests, actors, time_is_known=False)
        # A refusal, or a reply that repeats an earlier one, may be outdated: the database decides.
        return batch if batch.granted and batch.changed else None

    def _decide(
        self, working_set: WorkingSet, requests: list[LedgerRequest], actors: Actors, *, time_is_known: bool = True
    ) -> Batch:
        working_set.events_left = self._events_max - len(self._known.events)
        working_set.hold_seconds_total_max = self._hold_seconds_total_max
        return Batch(working_set, requests, actors, time_is_known=time_is_known)

    async def _save(self, batch: Batch, connection: PooledConnection) -> bool:
        """Save a batch durably, or return False: it is stale, and nothing was done."""
        id, began = new_id(), time.monotonic()
        many = batch.tickets_expired > HOLDS_PER_SECOND_MIN
        try:
            async with self._pool.within(COMMIT_SECONDS_MAX + batch.tickets_expired / HOLDS_PER_SECOND_MIN):
                if many:
                    begin = "" if connection.is_in_transaction() else "BEGIN; "
                    await connection.execute(begin + connection.lift_timeouts)
                saved = await batch.save(connection, id)
                if connection.is_in_transaction():
                    await connection.execute("COMMIT" if saved else "ROLLBACK")
                if saved:
                    connection.synced_at = began
                return saved
        except (EventsLockedError, StorageFullError):
            raise
        except Exception as error:
            if is_refusal(error) or await self._outcomes.last_batch(connection, error) != id:
                raise
            # Saved, but the result was lost with the connection.
            await self._outcomes.retry(batch.look_up)
            return True

    def _remember(self, batch: Batch) -> Answers:
        """Remember what a batch has shown and done, for the decisions to come. Returns its answers."""
        for booking in batch.bookings:
            if booking.state == "held" and booking.expires is not None:
                known = self.next_expiry
                self.next_expiry = booking.expires if known is None else min(booking.expires, known)
        if batch.is_unserved:
            self.next_expiry = 0
        answers = batch.answers
        self._looks.note_removed(answers.removed)
        self._looks.note_shown(answers.events)
        return self._known.remember(answers, batch.bookings)
