"""Both ledgers, empty, with a clock that tests move: what is promised of one is promised of the other."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

from tests.faketime import Clock
from ticketd.ids import new_id
from ticketd.stores.base import Store
from ticketd.stores.postgres import PostgresStore
from ticketd.stores.postgres_link import TRY_SECONDS_MAX, Line, Link
from ticketd.stores.sqlite import SqliteStore, utc_now

COMMIT_SECONDS_MAX = 30


# What the database is told that it is now comes before what its own clock says.
_MOVABLE_CLOCK = """
CREATE OR REPLACE FUNCTION ticketd.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT current_setting('test.now')::timestamptz $$;
CREATE OR REPLACE FUNCTION ticketd.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT current_setting('test.now')::timestamptz $$;
"""


class SqliteLedger:
    """A ledger in a folder."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self._folder = folder
        self._clock = clock or utc_now

    async def open(self, mint: Callable[[], str] = new_id) -> Store:
        """Open it, or make it."""
        self._folder.mkdir(exist_ok=True)
        return SqliteStore(self._folder / "events.db", mint, COMMIT_SECONDS_MAX, self._clock)

    async def crash(self, store: Store) -> None:
        """Leave it as kill -9 does: what is opened next has the files as they are now."""
        copy = self._folder.with_name(self._folder.name + "-killed")
        shutil.copytree(self._folder, copy)
        await store.close()
        self._folder = copy


class PostgresLedger:
    """A ledger in a database."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self._url = url
        self._clock = clock

    async def open(self, mint: Callable[[], str] = new_id) -> Store:
        """Open it, or make it."""
        if self._clock is None:
            return await PostgresStore.open(self._url, mint, COMMIT_SECONDS_MAX)
        link = _LinkWithClock(self._url, self._clock)
        await link.open()
        return _StoreWithClock(link, mint, self._clock)

    async def crash(self, store: Store) -> None:
        """Leave it as kill -9 does: the connections break."""
        await store.close()


Ledger = SqliteLedger | PostgresLedger
LEDGERS = ["sqlite", "postgres"]


def new_ledger(request: pytest.FixtureRequest, clock: Clock | None = None) -> Ledger:
    """Return an empty ledger of the kind that is the parameter of a fixture."""
    if request.param == "sqlite":
        return SqliteLedger(request.getfixturevalue("tmp_path"), clock)
    return PostgresLedger(request.getfixturevalue("database"), clock)


class _LinkWithClock(Link):
    """Sets the clock of each connection before it is used."""

    def __init__(self, url: str, clock: Clock) -> None:
        super().__init__(url)
        self._clock = clock

    async def open(self) -> None:
        await super().open()
        async with super().lend() as line:
            await line.execute(_MOVABLE_CLOCK)

    @asynccontextmanager
    async def lend(self, seconds: float = TRY_SECONDS_MAX) -> AsyncIterator[Line]:
        async with super().lend(seconds) as line:
            now = self._clock.time.isoformat()
            await line.execute(f"SET search_path = ticketd, pg_catalog; SET test.now = '{now}'")
            yield line


class _StoreWithClock(PostgresStore):
    """Knows the clock of the database at any time, and not only by what it was told last."""

    def __init__(self, link: Link, mint: Callable[[], str], clock: Clock) -> None:
        super().__init__(link, mint, COMMIT_SECONDS_MAX)
        self._movable = clock

    def now(self) -> datetime:
        return self._movable.time
