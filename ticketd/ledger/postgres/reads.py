"""Reads what is committed: one statement, so one snapshot, for a page, or for what several clients want to be shown."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from typing import NamedTuple

from ticketd.ledger.base import Answers
from ticketd.ledger.postgres.changes import Looks
from ticketd.ledger.postgres.load import load_committed, load_page
from ticketd.ledger.postgres.pool import TRY_SECONDS_MAX, Pool
from ticketd.ledger.tasks import Tasks
from ticketd.rules.commands import TABLE, read_set
from ticketd.rules.working_set import LedgerRequest, Page, WorkingSet
from ticketd.wire.replies import ErrorReply

READS_AT_ONCE = 2
# How many bookings and tickets one statement reads for shows. Each may be of a booking with a thousand tickets.
SHOWN_PER_READ = 32
# How many of them are read at once for one client, since all their replies stay in memory until it reads them.
SHOWN_PER_CLIENT = 4
NO_BACKUP = ErrorReply(
    "backup_failed",
    "this ledger is in PostgreSQL, which makes its own backups: as the owner, use pg_dump -Fc -f FILE URL",
)

Done = Callable[[Answers | Exception], None]


class _Asked(NamedTuple):
    """What one client is answered next: a page, or what it wants to be shown before the next page."""

    requests: Sequence[LedgerRequest]
    page: Page | None
    done: Done


class Reads:
    """Reads, READS_AT_ONCE statements at a time. While they are under way, clients gather for the next one."""

    def __init__(self, pool: Pool, tasks: Tasks, looks: Looks) -> None:
        self._pool = pool
        self._tasks = tasks
        self._looks = looks
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Asked] = deque()
        self._under_way = 0
        self._scheduled = False

    @property
    def can_read(self) -> bool:
        """Whether there is room for one client more."""
        return sum([len(asked.requests) for asked in self._waiting]) < SHOWN_PER_READ

    def read(self, requests: Sequence[LedgerRequest], done: Done) -> None:
        """Answer the first of the requests, and more unless they ask for a page or a backup."""
        first = read_set(requests[:1])
        if first.backup is not None:
            self._loop.call_soon(done, Answers([NO_BACKUP]))
            return
        requests = requests[:1] if first.page else [*takewhile(_is_show, requests[:SHOWN_PER_CLIENT])]
        self._waiting.append(_Asked(requests, first.page, done))
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled and self._under_way < READS_AT_ONCE:
            self._scheduled = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        batch = [self._waiting.popleft()]
        room = SHOWN_PER_READ - len(batch[0].requests)
        if not batch[0].page:
            while self._waiting and not self._waiting[0].page and len(self._waiting[0].requests) <= room:
                batch.append(self._waiting.popleft())
                room -= len(batch[-1].requests)
        self._under_way += 1
        self._tasks.run(self._load(batch), partial(self._answer, batch))
        self._schedule()

    async def _load(self, batch: Sequence[_Asked]) -> WorkingSet:
        async with self._pool.lend() as connection, self._pool.within(TRY_SECONDS_MAX):
            await self._pool.sync(connection)
            if page := batch[0].page:
                return await load_page(connection, page)
            return await load_committed(connection, read_set([each for asked in batch for each in asked.requests]))

    def _answer(self, batch: Sequence[_Asked], loaded: WorkingSet | Exception) -> None:
        self._under_way -= 1
        self._schedule()
        if isinstance(loaded, WorkingSet):
            self._looks.note_shown(loaded.events.values())
        for asked in batch:
            asked.done(loaded if isinstance(loaded, Exception) else _answers(loaded, asked.requests))


def _is_show(request: LedgerRequest) -> bool:
    reads = read_set([request])
    return reads.page is None and reads.backup is None


def _answers(working_set: WorkingSet, requests: Sequence[LedgerRequest]) -> Answers | Exception:
    try:
        replies = [TABLE[type(request)].read(working_set, request) for request in requests]  # type: ignore[misc]
    except Exception as bug:
        return bug
    return Answers(replies, list(working_set.events.values()))
