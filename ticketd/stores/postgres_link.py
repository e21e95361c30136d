"""The way to the database: connections that are opened when needed, seen to be fit for a ledger, and used again.

Every wait has an end, on both sides: a transaction whose daemon has gone silent is ended by the database, since it may
hold the lock of an event that all others wait for.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from ticketd.ids import new_id
from ticketd.stores.base import CannotOpenError, EventsLockedError, LedgerAwayError, StorageFullError
from ticketd.stores.database_url import public_name
from ticketd.stores.postgres_schema import SCHEMA, migrate

# To connect, lock and load takes milliseconds. A request may wait longer: it is tried again.
TRY_SECONDS_MAX = 2.0
# A batch has an event to itself for milliseconds. Where that lasts, others shall not wait for it.
LOCK_MILLISECONDS_MAX = 500
OPEN_SECONDS_MAX = 10.0
# A daemon that has been silent for so long within a transaction loses it.
SILENCE_MILLISECONDS_MAX = 1_000
# The same where half of a message has come, which PostgreSQL does not call silence.
TRANSACTION_MILLISECONDS_MAX = 5_000
SERVER_VERSION_MIN = 130_000
SERVER_VERSION_WITH_TRANSACTION_TIMEOUT = 170_000
# Every transaction comes after this one.
TOLD_NOTHING = "0"

# Every row is found by an index. What a table that was just made has for statistics says otherwise, and plans are kept.
# Just-in-time compilation costs more than any statement here.
_SETTINGS = f"""
SET search_path = {SCHEMA};
SET synchronous_commit = on;
SET default_transaction_isolation = 'read committed';
SET idle_in_transaction_session_timeout = {SILENCE_MILLISECONDS_MAX};
SET lock_timeout = {LOCK_MILLISECONDS_MAX};
SET statement_timeout = {TRANSACTION_MILLISECONDS_MAX};
SET tcp_keepalives_idle = 2;
SET tcp_keepalives_interval = 1;
SET tcp_keepalives_count = 3;
SET tcp_user_timeout = 5000;
SET enable_seqscan = off;
SET plan_cache_mode = force_generic_plan;
SET jit = off;
"""
_FITNESS = """
SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS standby,
    current_setting('transaction_read_only')::bool AS read_only, current_setting('fsync')::bool AS fsync,
    current_setting('full_page_writes')::bool AS full_page_writes, current_setting('server_encoding') AS encoding
"""
# By the class of its code, what PostgreSQL says when it cannot serve now, whatever it was asked: transactions that were
# ended, authorization, databases, rights and tables, resources, operators, the system, its own bugs.
_AWAY = ("25", "28", "3D", "42", "53", "57", "58", "XX")

# Others did the same at the same time. Nothing is done, and it can be done anew by what is there now.
CONFLICTS = (
    asyncpg.UniqueViolationError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCachedStatementError,
)


class Line(asyncpg.Connection):
    """A connection, with a name for its row in ``commits``."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.name = new_id()
        # What gives a transaction all the time it needs, as long as the daemon does.
        self.take_your_time = "SET LOCAL statement_timeout = 0"
        # The transactions before this one have ended, and what they changed has been told on this line.
        self.told = TOLD_NOTHING


class Link:
    """Lends connections to the database at ``url``. Raises ValueError if it is none."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[Line] = []
        self.name = public_name(url)

    async def open(self) -> None:
        """See that a ledger can be kept there, and make its tables if there are none. Raises CannotOpenError."""
        try:
            async with self.lend(OPEN_SECONDS_MAX) as connection, self.within(OPEN_SECONDS_MAX):
                await migrate(connection, self.name)
        except LedgerAwayError as error:
            raise CannotOpenError(str(error)) from error
        except asyncpg.PostgresError as error:
            raise CannotOpenError(
                f"cannot open the ledger in the database {self.name}: {error}; a user that owns the database can, and"
                " so can others that have been granted what it has"
            ) from error

    @asynccontextmanager
    async def lend(self, seconds: float = TRY_SECONDS_MAX) -> AsyncIterator[Line]:
        """Lend a connection, which is used again unless an exception passes through here.

        Raises LedgerAwayError if there is none after so long.
        """
        async with self.within(seconds):
            connection = await self._take()
        try:
            yield connection
        except LedgerAwayError:
            # The others may have broken with it, and not tell. Nothing may wait before the connection is closed: the
            # driver would ask the database to cancel what it does, and that may be a commit.
            connection.terminate()
            self.close()
            raise
        except BaseException:
            connection.terminate()
            raise
        self._idle.append(connection)

    def close(self) -> None:
        """Let go of all connections that nobody uses, without waiting for the other side."""
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Bound what is done with a connection. Raises LedgerAwayError if that takes longer, or the connection breaks.

        What PostgreSQL says of the statements themselves passes through; StorageFullError if it has no room, and
        EventsLockedError if somebody else has what is to be locked.
        """
        with self._telling():
            async with asyncio.timeout(seconds):
                yield

    async def _take(self) -> Line:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        connection = await asyncpg.connect(
            self._url, timeout=OPEN_SECONDS_MAX, max_cached_statement_lifetime=0, connection_class=Line
        )
        try:
            [server] = await connection.fetch(_FITNESS)
            self._see_that_it_is_fit(server)
            await connection.execute(_SETTINGS)
            if server["version"] >= SERVER_VERSION_WITH_TRANSACTION_TIMEOUT:
                await connection.execute(f"SET transaction_timeout = {TRANSACTION_MILLISECONDS_MAX}")
                connection.take_your_time += "; SET LOCAL transaction_timeout = 0"
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _see_that_it_is_fit(self, server: asyncpg.Record) -> None:
        reason = None
        if server["version"] < SERVER_VERSION_MIN:
            reason = f"is older than PostgreSQL {SERVER_VERSION_MIN // 10_000}; upgrade it"
        elif server["standby"]:
            reason = "is a standby, and cannot sell; give the address of the primary"
        elif server["read_only"]:
            reason = "is read-only (default_transaction_read_only); turn that off for this user"
        elif not server["fsync"]:
            reason = "does not sync what it commits (fsync is off), and would lose sales; turn it on"
        elif not server["full_page_writes"]:
            reason = "may be torn by a power cut (full_page_writes is off), and would lose sales; turn it on"
        elif server["encoding"] != "UTF8":
            reason = f"is in {server['encoding']}, which has not all letters; make a database in UTF8"
        if reason:
            raise LedgerAwayError(f"the database {self.name} {reason}")

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Say in words why the database cannot be reached."""
        try:
            yield
        except asyncpg.LockNotAvailableError:
            raise EventsLockedError from None
        except asyncpg.DiskFullError as error:
            raise StorageFullError(f"there is no room for the database {self.name}: {error}") from None
        except TimeoutError:
            raise LedgerAwayError(f"the database {self.name} does not answer in time") from None
        except OSError as error:
            reason = error.strerror or str(error)
            hint = ". Is PostgreSQL running?" if error.errno else ""
            raise LedgerAwayError(f"cannot reach the database {self.name} ({reason.lower()}){hint}") from error
        except asyncpg.ClientConfigurationError as error:
            raise LedgerAwayError(f"the URL of the database {self.name} cannot be used: {error}") from error
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise LedgerAwayError(f"the connection to the database {self.name} broke") from error
        except asyncpg.PostgresError as error:
            if error.sqlstate and error.sqlstate.startswith(_AWAY):
                raise LedgerAwayError(f"the database {self.name} does not serve: {error}") from error
            raise
