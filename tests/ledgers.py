"""Both ledgers, empty, with a clock that tests move: what is promised of one is promised of the other."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.faketime import Clock
from ticketd.ledger.base import Answers, Ledger
from ticketd.ledger.embedded.ledger import EmbeddedLedger, system_clock
from ticketd.ledger.postgres.connection import PooledConnection
from ticketd.ledger.postgres.ledger import PostgresLedger
from ticketd.ledger.postgres.pool import TRY_SECONDS_MAX, Pool
from ticketd.model import HOLD_SECONDS_TOTAL_MAX_DEFAULT
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import Reply
from ticketd.wire.requests import Request

COMMIT_SECONDS_MAX = 30


# These functions hide the ones of PostgreSQL: the time is what the tests set.
_MOVABLE_CLOCK = """
CREATE OR REPLACE FUNCTION ticketd.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT current_setting('test.now')::timestamptz $$;
CREATE OR REPLACE FUNCTION ticketd.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT current_setting('test.now')::timestamptz $$;
"""


class EmbeddedStorage:
    """A ledger in a folder."""

    def __init__(
        self,
        folder: Path,
        clock: Clock | None = None,
        hold_seconds_total_max: int = HOLD_SECONDS_TOTAL_MAX_DEFAULT,
    ) -> None:
        self._folder = folder
        self._clock = clock or system_clock
        self._hold_seconds_total_max = hold_seconds_total_max

    async def open(self) -> Ledger:
        """Open it, or make it."""
        self._folder.mkdir(exist_ok=True)
        return EmbeddedLedger(
            self._folder / "events.db",
            COMMIT_SECONDS_MAX,
            self._clock,
            hold_seconds_total_max=self._hold_seconds_total_max,
        )

    async def crash(self, ledger: Ledger) -> None:
        """Leave it as kill -9 does: what is opened next has the files as they are now."""
        copy = self._folder.with_name(self._folder.name + "-killed")
        shutil.copytree(self._folder, copy)
        await ledger.close()
        self._folder = copy


class PostgresStorage:
    """A ledger in a database, whose clock is ``clock``. ``estimate`` is what the ledger takes it for, if it differs."""

    def __init__(
        self,
        url: str,
        clock: Clock | None = None,
        hold_seconds_total_max: int = HOLD_SECONDS_TOTAL_MAX_DEFAULT,
        estimate: Clock | None = None,
    ) -> None:
        self._url = url
        self._clock = clock
        self._estimate = estimate or clock
        self._hold_seconds_total_max = hold_seconds_total_max

    async def open(self) -> Ledger:
        """Open it, or make it."""
        if self._clock is None or self._estimate is None:
            return await PostgresLedger.open(
                self._url, COMMIT_SECONDS_MAX, hold_seconds_total_max=self._hold_seconds_total_max
            )
        pool = _PoolWithClock(self._url, self._clock)
        await pool.open()
        return _LedgerWithClock(pool, self._estimate, self._hold_seconds_total_max)

    async def crash(self, ledger: Ledger) -> None:
        """Leave it as kill -9 does: the connections break."""
        await ledger.close()


T = TypeVar("T")


async def result_of(method: Callable[[Any, Callable[[T | Exception], None]], T | None], asked: Any) -> T:
    """Return what a method of a ledger returns or gives to its callback; raise what it raises."""
    done: asyncio.Future[T | Exception] = asyncio.get_running_loop().create_future()
    result = method(asked, done.set_result)
    outcome = await done if result is None else result
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def transact(
    ledger: Ledger, requests: Sequence[LedgerRequest], actors: Sequence[str | None] | None = None
) -> Answers:
    """Commit requests. ``actors`` are the names of those who sent them, if any are known."""
    return await result_of(partial(ledger.transact, actors=actors), list(requests))


async def read(ledger: Ledger, requests: Sequence[Request]) -> list[Reply]:
    """Return the replies to requests that only read, slice by slice."""
    replies: list[Reply] = []
    while len(replies) < len(requests):
        replies += (await result_of(ledger.read, requests[len(replies) :])).replies
    return replies


Storage = EmbeddedStorage | PostgresStorage
STORAGES = ["sqlite", "postgres"]


def new_storage(request: pytest.FixtureRequest, clock: Clock | None = None) -> Storage:
    """Return an empty ledger of the kind that is the parameter of a fixture."""
    if request.param == "sqlite":
        return EmbeddedStorage(request.getfixturevalue("tmp_path"), clock)
    return PostgresStorage(request.getfixturevalue("database"), clock)


class _PoolWithClock(Pool):
    """Sets the clock of each connection before it is used."""

    def __init__(self, url: str, clock: Clock) -> None:
        super().__init__(url)
        self._clock = clock

    async def open(self) -> None:
        await super().open()
        async with super().lend() as connection:
            await connection.execute(_MOVABLE_CLOCK)

    @asynccontextmanager
    async def lend(self, seconds: float = TRY_SECONDS_MAX) -> AsyncIterator[PooledConnection]:
        async with super().lend(seconds) as connection:
            now = self._clock.time.isoformat()
            await connection.execute(f"SET search_path = ticketd, pg_catalog; SET test.now = '{now}'")
            yield connection


class _LedgerWithClock(PostgresLedger):
    """Reads the movable clock itself, where the real ledger goes by what the database last said."""

    def __init__(self, pool: Pool, clock: Clock, hold_seconds_total_max: int) -> None:
        super().__init__(pool, COMMIT_SECONDS_MAX, hold_seconds_total_max=hold_seconds_total_max)
        self._movable = clock

    def now(self) -> int:
        return self._movable()
