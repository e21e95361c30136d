"""Owns the connections to the database: opens them on demand, checks them, reuses them, and bounds their number.

A connection that is given up may leave a backend that goes on: while it waits for a synchronous standby, it does not
notice that its client has gone. Such abandoned backends count until the database says that they have ended.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import asyncpg

from ticketd.ledger.base import CannotOpenError, EventsLockedError, LedgerUnavailableError, StorageFullError
from ticketd.ledger.marks import Mark, refusal
from ticketd.ledger.postgres import presence
from ticketd.ledger.postgres.cluster import check_ledger
from ticketd.ledger.postgres.connection import (
    BACKEND,
    PooledConnection,
    on_one_line,
    prepare,
    session_lost,
    translated_errors,
)
from ticketd.ledger.postgres.hosts import Hosts
from ticketd.ledger.postgres.schema import migrate
from ticketd.ledger.postgres.url import public_name, without_password

# Connecting, locking and loading take milliseconds. After this time, they are tried again.
TRY_SECONDS_MAX = 2.0
OPEN_SECONDS_MAX = 10.0
# With abandoned backends. The last connection is never lent: it asks which of those have ended, when no other may be
# opened.
CONNECTIONS_MAX = 10
# How often that is asked.
ASK_EVERY_SECONDS = 1.0
# What needs no commit is answered on a connection whose last commit is not older than this.
SYNCED_SECONDS_MAX = 1.0
# By then, keepalives have ended a backend that is idle and whose client has gone. An abandoned one
# that is idle for longer is kept by a pooler.
IDLE_SECONDS_MAX = 5.0

_BACKENDS = f"""
SELECT {BACKEND} AS backend, state = 'idle' AS idle, wait_event IS NOT DISTINCT FROM 'SyncRep' AS waits_for_standby
FROM pg_stat_activity WHERE {BACKEND} = ANY($1::text[])
"""
# A commit of any daemon with the same role has waited for longer than a standby that is there takes.
STANDBY_IS_AWAY = """
EXISTS (
    SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'
        AND clock_timestamp() - query_start > interval '1 second'
)
"""
# Any commit waits for those before it to be durable.
_SYNC = "INSERT INTO commits (connection) VALUES ($1) ON CONFLICT (connection) DO UPDATE SET at = excluded.at"


class Pool:
    """Lends connections to the newest primary of the database at ``url``. Raises ValueError if the URL is unusable."""

    def __init__(self, url: str) -> None:
        self.name = public_name(url)
        self._hosts = Hosts(url, self.name, self._break_outdated)
        self._address = without_password(url)
        self._idle: list[PooledConnection] = []
        self._lent: set[PooledConnection] = set()
        self._opening = 0
        # The backends of connections that were given up, and when, by time.monotonic(). They may not have ended yet.
        self._abandoned: dict[str, float] = {}
        self._next_ask_at = 0.0
        # Whether the tables exist, so that the ledger can be read.
        self._opened = False

    async def open(self) -> None:
        """Check that the database is fit for a ledger, and create its tables if needed. Raises CannotOpenError."""
        try:
            async with self.lend(OPEN_SECONDS_MAX) as connection, self.within(OPEN_SECONDS_MAX):
                async with self.lend() as another:
                    await self._check_sessions(connection, another)
                await migrate(connection, self.name)
                self._check_mark(await check_ledger(connection, connection.cluster, self.name, starting=True))
                self._opened = True
        except LedgerUnavailableError as error:
            raise CannotOpenError(await self.why_commits_hang() or str(error)) from error
        except asyncpg.PostgresError as error:
            raise CannotOpenError(
                f"cannot open the ledger in the database {self.name}: {on_one_line(error)}; connect as its owner, or as"
                " a user with the rights of its owner"
            ) from error
        finally:
            if not self._opened:
                self.close()
        self._hosts.watch()

    @asynccontextmanager
    async def lend(self, seconds: float = TRY_SECONDS_MAX) -> AsyncIterator[PooledConnection]:
        """Lend a connection for the block. It is reused unless the block raises.

        It breaks if a newer primary is seen meanwhile. Raises LedgerUnavailableError if ``seconds`` pass without a
        connection.
        """
        connection = self._take()
        if not connection:
            async with self.within(seconds):
                connection = await self._connect()
        self._lent.add(connection)
        try:
            yield connection
        except LedgerUnavailableError:
            # The idle connections may be broken too. Await nothing before this one is terminated: the driver would ask
            # the database to cancel its statement, which may be a commit.
            self._give_up(connection)
            self._give_up_idle()
            self._hosts.search_again()
            raise
        except BaseException as error:
            if not isinstance(error, EventsLockedError | StorageFullError) or connection.is_in_transaction():
                self._give_up(connection)
                raise
            # A statement has failed, and the connection is as good as before.
            self._take_back(connection)
            raise
        self._take_back(connection)

    def close(self) -> None:
        """Close all idle connections, without waiting for the database."""
        self._give_up_idle()
        self._hosts.close()

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Limit the time of the block, and translate its errors as ``translated_errors`` does.

        Raises LedgerUnavailableError too if it takes longer than ``seconds``.
        """
        with translated_errors(self.name):
            async with asyncio.timeout(seconds):
                yield

    async def check_no_commit_hangs(self) -> None:
        """Call this before a commit. Raises LedgerUnavailableError while an earlier one waits for a standby.

        Awaits nothing if none was given up.
        """
        given_up = [*self._abandoned, *(each.backend for each in self._lent if each.is_closed())]
        if not given_up:
            return
        async with self.lend() as connection, self.within(TRY_SECONDS_MAX):
            backends = await self._ask_about(connection, given_up)
        if reason := _if_standby_is_away(self.name, backends):
            raise LedgerUnavailableError(reason)

    async def sync(self, connection: PooledConnection) -> None:
        """Wait until everything that a connection shows is durable, on the standby too. Raises the errors of asyncpg.

        After a crash, a primary shows commits that its standby may lack; after a pause, its standby may be the primary.
        In both cases a commit waits in vain. If the last one is not SYNCED_SECONDS_MAX old, nothing is done.
        """
        now = time.monotonic()
        if now - connection.synced_at > SYNCED_SECONDS_MAX:
            # Without room, nothing new can be shown either.
            with suppress(asyncpg.DiskFullError):
                await connection.execute(_SYNC, connection.name)
                connection.synced_at = now

    async def why_commits_hang(self) -> str | None:
        """Return in words why commits do not end, as asked on another connection, or None if that is not known."""
        try:
            async with self.lend() as connection, self.within(TRY_SECONDS_MAX):
                own = [*self._abandoned, *(each.backend for each in self._lent)]
                return _if_standby_is_away(self.name, await self._ask_about(connection, own))
        except LedgerUnavailableError:
            return None

    def _take_back(self, connection: PooledConnection) -> None:
        self._lent.discard(connection)
        self._idle.append(connection)

    def _take(self) -> PooledConnection | None:
        """Return an idle connection that is not broken, or None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._give_up(connection)
        return None

    async def _connect(self) -> PooledConnection:
        """Return a new connection, ready for use. Raises LedgerUnavailableError, also if there are too many."""
        self._opening += 1
        try:
            if self._backends_max() >= CONNECTIONS_MAX:
                await self._forget_ended()
            if self._backends_max() >= CONNECTIONS_MAX:
                raise LedgerUnavailableError(
                    f"this daemon has {CONNECTIONS_MAX - 1} connections to the database {self.name} already, which is"
                    " all that it may have; it waits for them to end"
                )
            connection = await self._hosts.connect()
        finally:
            self._opening -= 1
        # From now on it breaks when a newer primary is seen.
        self._lent.add(connection)
        try:
            await self._make_usable(connection)
        except BaseException:
            self._give_up(connection)
            raise
        return connection

    async def _make_usable(self, connection: PooledConnection) -> None:
        """Make the settings, take the lock that daemons share, and check the ledger. Raises LedgerUnavailableError."""
        await prepare(connection)
        await presence.lock_shared(connection, self.name)
        if self._opened:
            self._check_mark(await check_ledger(connection, connection.cluster, self.name, starting=False))
        if self._abandoned:
            await self._ask_about(connection, [*self._abandoned])
        if connection.cluster.timeline < self._hosts.timeline:
            raise LedgerUnavailableError(f"another primary of the database {self.name} was promoted just now")

    async def _check_sessions(self, connection: PooledConnection, another: PooledConnection) -> None:
        """Raise LedgerUnavailableError if a connection changes its backend while another one is in a transaction."""
        backend = f"SELECT {BACKEND} FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        async with another.transaction():
            taken = await another.fetchval(backend)
            if taken == connection.backend or await connection.fetchval(backend) != connection.backend:
                raise session_lost(self.name)

    def _check_mark(self, mark: Mark) -> None:
        """Raise LedgerUnavailableError if a move has marked the ledger. None can while a connection is open."""
        if refused := refusal(mark, self._address):
            raise LedgerUnavailableError(refused)

    def _backends_max(self) -> int:
        """How many backends this daemon has at most, with those that are abandoned."""
        return len(self._idle) + len(self._lent) + self._opening + len(self._abandoned)

    async def _ask_about(self, connection: PooledConnection, backends: Sequence[str]) -> list[asyncpg.Record]:
        """Return the rows of _BACKENDS of those that exist. Those that have ended are no longer counted."""
        rows = await connection.fetch(_BACKENDS, backends)
        idle = {row["backend"]: row["idle"] for row in rows}
        for backend in backends:
            ended_by = self._abandoned.get(backend, math.inf) + IDLE_SECONDS_MAX
            if backend not in idle or (idle[backend] and time.monotonic() > ended_by):
                self._abandoned.pop(backend, None)
        return rows

    async def _forget_ended(self) -> None:
        """Ask which abandoned backends have ended, on a connection of its own, every ASK_EVERY_SECONDS."""
        if time.monotonic() < self._next_ask_at:
            return
        self._next_ask_at = time.monotonic() + ASK_EVERY_SECONDS
        connection = await self._hosts.connect()
        try:
            await self._ask_about(connection, [*self._abandoned])
        finally:
            connection.terminate()

    def _give_up(self, connection: PooledConnection) -> None:
        """Terminate a connection. Its backend counts until the database says that it has ended."""
        self._lent.discard(connection)
        connection.terminate()
        if connection.cluster.timeline == self._hosts.timeline:
            self._abandoned[connection.backend] = time.monotonic()

    def _give_up_idle(self) -> None:
        """Terminate all idle connections."""
        while self._idle:
            self._give_up(self._idle.pop())

    def _break_outdated(self) -> None:
        """Break all connections to older primaries, lent ones too: what is committed there would be lost."""
        for connection in (*self._idle, *self._lent):
            if connection.cluster.timeline < self._hosts.timeline:
                connection.break_off()
        # Those are on a server that this daemon does not use any more.
        self._abandoned.clear()


async def connect(url: str, name: str) -> PooledConnection:
    """Return a connection to a database that is fit for a ledger. ``name`` is its name in messages.

    If the URL has several hosts, it is to the newest primary. Raises LedgerUnavailableError.
    """
    return await Hosts(url, name).connect()


def _if_standby_is_away(name: str, backends: Sequence[asyncpg.Record]) -> str | None:
    return standby_away(name) if any(backend["waits_for_standby"] for backend in backends) else None


def standby_away(name: str) -> str:
    """Return why nothing can be sold from the database ``name`` while a standby is away, and what to do."""
    return (
        f"the database {name} waits for a synchronous standby that is away; bring it back, or remove it from"
        " synchronous_standby_names"
    )
