"""Owns the embedded ledger: one SQLite file, one connection, held exclusively. At most one commit is in flight.

The way of a batch:

1. The loop loads what it names and decides it. If nothing changes, it reports the result at once.
2. The writer thread saves and commits the changes by one statement, which syncs the log, and then writes the seal.
   Meanwhile the loop does not use the connection.
3. The loop takes the changes over into memory, and only now reports the result to the committer, which replies.

What is written, and what follows when it fails, is in ``database``.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from pathlib import Path

import apsw

from ticketd.errors import TicketError
from ticketd.ids import new_ticket
from ticketd.ledger.base import ROWS_PER_SLICE, Answers, Done, LedgerFailedError
from ticketd.ledger.embedded.backup import Backup
from ticketd.ledger.embedded.database import Database
from ticketd.ledger.embedded.files import UNREADABLE, damaged, reason
from ticketd.ledger.embedded.holds import Holds
from ticketd.ledger.embedded.load import load
from ticketd.ledger.embedded.opening import Use, open_ledger
from ticketd.ledger.embedded.save import total_of
from ticketd.ledger.embedded.waiting_lists import WaitingLists
from ticketd.ledger.embedded.writer import Writer
from ticketd.ledger.rows import EVENT_COLUMNS, event_of
from ticketd.ledger.tasks import Tasks
from ticketd.model import (
    HOLD_SECONDS_MAX,
    HOLD_SECONDS_TOTAL_MAX_DEFAULT,
    Event,
    time_of,
)
from ticketd.rules.commands import TABLE, decide_all, read_set
from ticketd.rules.working_set import LedgerRequest, ReadSet, WorkingSet
from ticketd.wire.replies import Reply, error_reply

log = logging.getLogger(__name__)

_ACTIVE_HOLDS = "SELECT id, event, quantity, expires FROM bookings WHERE state = 'held'"
_IN_LINE = "SELECT event, version FROM bookings WHERE state = 'waiting' ORDER BY version"


def system_clock() -> int:
    """Return the time of the system's clock, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class EmbeddedLedger:
    """The ledger in the file at ``path``, which is created if it does not exist. Raises CannotOpenError.

    ``commit_seconds_max`` is how long a commit with its checkpoint may take; ``clock`` returns milliseconds since 1970.
    ``accept_losses`` opens a ledger even if acknowledged commits are missing from it. ``events_max`` is how many events
    there may be, and ``hold_seconds_total_max`` how long a hold may last in all.
    """

    commits_at_once = 1

    def __init__(
        self,
        path: Path,
        commit_seconds_max: float,
        clock: Callable[[], int] = system_clock,
        *,
        accept_losses: bool = False,
        events_max: float = math.inf,
        hold_seconds_total_max: int = HOLD_SECONDS_TOTAL_MAX_DEFAULT,
    ) -> None:
        # See Ledger.
        self.now = clock
        self._events_max = events_max
        self._hold_seconds_total_max = hold_seconds_total_max
        opened = open_ledger(path, Use(accept_losses=accept_losses))
        self._connection = opened.connection
        self._cursor = self._connection.cursor()
        try:
            self._database = Database(path, opened)
            # All committed events. They stay current, since only this process writes to the file.
            rows = self._cursor.execute(f"SELECT {EVENT_COLUMNS} FROM events ORDER BY number")
            self._events = {event.id: event for event in map(event_of, rows)}
            self._holds = Holds(self._cursor.execute(_ACTIVE_HOLDS))
            self._waiting_lists = WaitingLists(self._cursor.execute(_IN_LINE), self._events.values())
            # See Ledger.
            self.held = self._holds.held
            self._warn_of_distant_holds()
        except apsw.Error as error:
            raise damaged(path, error) from error
        self._writer = Writer(commit_seconds_max)
        self._tasks = Tasks()

    def _warn_of_distant_holds(self) -> None:
        """Log how many holds run out later than any hold that is made now: the clock was ahead when they were made."""
        longest = max(HOLD_SECONDS_MAX, self._hold_seconds_total_max)
        distant = self._holds.after(self.now() + longest * 1_000)
        if distant:
            log.warning(
                "holds=%d run out more than %d s from now, the last of them at %s, since the clock was ahead when they"
                " were made; their tickets are held until then: release them, or set the clock right",
                *(len(distant), longest, time_of(max(distant)).isoformat()),
            )

    def transact(
        self, requests: list[LedgerRequest], done: Done, actors: Sequence[str | None] | None = None
    ) -> Answers | None:
        """See Ledger."""
        working_set = self._load(read_set(requests), due=True)
        total_before = total_of(working_set)
        replies = decide_all(working_set, requests, actors)
        if not working_set.changed:
            self._waiting_lists.apply(working_set)
            return Answers(replies, (), changed=False)
        work = self._database.work_for(working_set, total_of(working_set) - total_before)
        self._writer.start(work, partial(self._committed, working_set, replies, done))
        return None

    def without_commit(self, requests: Sequence[LedgerRequest], refusal: Reply, done: Done) -> Answers | None:
        """See Ledger."""
        replies: list[Reply] = []
        for request in requests:
            working_set = self._load(read_set([request]), due=False)
            [reply] = decide_all(working_set, [request])
            replies.append(refusal if working_set.changed else reply)
        return Answers(replies)

    @property
    def can_read(self) -> bool:
        """See Ledger."""
        return not self._writer.busy

    def read(self, requests: Sequence[LedgerRequest], done: Done) -> Answers | None:
        """See Ledger."""
        replies: list[Reply] = []
        rows = 0
        for request in requests:
            reads = read_set([request])
            if reads.backup is not None:
                return Answers(replies) if replies else self._back_up(request, reads.backup, done)
            working_set = self._load(reads, due=False)
            replies.append(_read(working_set, request))
            # What finds nothing costs something too.
            rows += 1 + sum(
                1 + len(booking.tickets) + len(booking.changes or ()) for booking in working_set.bookings.values()
            )
            if reads.page and reads.page.searches:
                rows += ROWS_PER_SLICE
            if rows >= ROWS_PER_SLICE:
                break
        return Answers(replies, rows=rows)

    def _back_up(self, request: LedgerRequest, name: str, done: Done) -> Answers | None:
        working_set = WorkingSet(new_ticket, self.now())
        try:
            backup = self._database.begin_backup(name)
        except TicketError as error:
            working_set.backup = error_reply(error)
            return Answers([_read(working_set, request)])
        self._tasks.run(self._end_backup(backup, working_set, request), done)
        return None

    async def _end_backup(self, backup: Backup, working_set: WorkingSet, request: LedgerRequest) -> Answers:
        try:
            working_set.backup = await backup.end()
        except TicketError as error:
            working_set.backup = error_reply(error)
        return Answers([_read(working_set, request)])

    @property
    def next_expiry(self) -> int | None:
        """See Ledger."""
        expiry, turn = self._holds.next_expiry, self._waiting_lists.next_turn
        return expiry if turn is None else turn if expiry is None else min(expiry, turn)

    async def events(self) -> list[Event]:
        """See Ledger."""
        return list(self._events.values())

    async def check(self) -> None:
        """See CheckedLedger."""
        await self._database.check()

    async def close(self) -> None:
        """See Ledger."""
        await self._database.stop_reading()
        await self._writer.do(self._database.close)
        self._writer.close()

    def _load(self, reads: ReadSet, *, due: bool) -> WorkingSet:
        """Return what is to be read. ``due`` says that what is due is to be done.

        Without it, holds that have run out are still held, and nothing is offered to those who wait in line.
        """
        now = self.now()
        working_set = WorkingSet(new_ticket, now)
        working_set.events_left = self._events_max - len(self._events)
        working_set.hold_seconds_total_max = self._hold_seconds_total_max
        expiry = self._holds.next_expiry
        if due and expiry is not None and expiry <= now:
            working_set.due = self._holds.take_due(now)
            reads.events |= working_set.due.keys()
        if due and self._waiting_lists.next_turn is not None:
            reads.turns = self._waiting_lists.due(now)
            reads.events |= reads.turns
        serves = due and bool(self._waiting_lists)
        try:
            load(self._connection, reads, working_set, self._events, serves_waiting_lists=serves)
        except UNREADABLE as error:
            # A disk that cannot be read must not be written to either.
            raise LedgerFailedError(f"the ledger cannot be read: {reason(error)}") from error
        for event_id in reads.events:
            if event := self._events.get(event_id):
                working_set.events[event_id] = copy(event)
        if not due:
            self._waiting_lists.show_positions(working_set)
        return working_set

    def _committed(self, working_set: WorkingSet, replies: list[Reply], done: Done, error: Exception | None) -> None:
        if error:
            self._holds.put_back_due()
            done(error)
            return
        events = working_set.changed_events
        for event_id in working_set.deleted_events:
            self._events.pop(event_id, None)
        self._events.update(events)
        self._holds.apply(working_set.changed_bookings.values(), expired=bool(working_set.expired))
        self._waiting_lists.apply(working_set)
        done(
            Answers(
                replies,
                list(events.values()),
                changed=True,
                removed=working_set.deleted_events,
                expired=working_set.due,
                offered=working_set.offered,
                evicted=working_set.evicted,
            )
        )


def _read(working_set: WorkingSet, request: LedgerRequest) -> Reply:
    read = TABLE[type(request)].read
    assert read is not None
    return read(working_set, request)
