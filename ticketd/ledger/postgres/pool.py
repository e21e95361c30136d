"""Owns the connections to the database: opens them on demand, checks them, and reuses them.

Every wait has a limit, on both sides: the database ends a transaction whose daemon is silent, since other daemons may
wait for an event that it has locked.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from ticketd.ids import new_id
from ticketd.ledger.base import CannotOpenError, EventsLockedError, LedgerUnavailableError, StorageFullError
from ticketd.ledger.marks import refusal
from ticketd.ledger.postgres import presence
from ticketd.ledger.postgres.schema import SCHEMA, migrate, read_mark
from ticketd.ledger.postgres.url import public_name, without_password

# Connecting, locking and loading take milliseconds. After this time, they are tried again.
TRY_SECONDS_MAX = 2.0
# A batch locks an event for milliseconds. If it takes longer, the batches of other events must not wait for it.
LOCK_MILLISECONDS_MAX = 500
OPEN_SECONDS_MAX = 10.0
# The database ends a transaction in which the daemon has been silent for this long.
SILENCE_MILLISECONDS_MAX = 1_000
# The same if part of a message has arrived: PostgreSQL does not count that as silence.
TRANSACTION_MILLISECONDS_MAX = 5_000
SERVER_VERSION_MIN = 130_000
VERSION_WITH_TRANSACTION_TIMEOUT = 17
# Below the number of every transaction.
XMIN_START = "0"

# Every row is found by an index. By the statistics of a new table, PostgreSQL would plan scans, and joins without
# indexes, and keep these plans. Just-in-time compilation takes longer than any statement here.
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
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET plan_cache_mode = force_generic_plan;
SET jit = off;
"""
_FITNESS = """
SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS standby,
    current_setting('transaction_read_only')::bool AS read_only, current_setting('fsync')::bool AS fsync,
    current_setting('full_page_writes')::bool AS full_page_writes, current_setting('server_encoding') AS encoding
"""
# Classes of SQLSTATE codes for which no statement can succeed now (https://www.postgresql.org/docs/current/
# errcodes-appendix.html): invalid transaction state, authorization, missing database, missing rights or tables,
# resources, operator intervention, system errors, internal errors.
_UNAVAILABLE = ("25", "28", "3D", "42", "53", "57", "58", "XX")

# Another transaction made a conflicting change. Nothing was done, and the batch can be decided again.
CONFLICTS = (
    asyncpg.UniqueViolationError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InvalidCachedStatementError,
)


class PooledConnection(asyncpg.Connection):
    """A connection, with a name for its row in ``commits``."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.name = new_id()
        # For a transaction with very much to do: lifts the time limits of the database, but not those of the daemon.
        self.lift_timeouts = "SET LOCAL statement_timeout = 0"
        # The changes of all transactions with lower numbers have been read on this connection.
        self.seen_xmin = XMIN_START


class Pool:
    """Lends connections to the database at ``url``. Raises ValueError if that is not a valid URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[PooledConnection] = []
        # Whether the tables exist, so that the mark can be read.
        self._opened = False
        self.name = public_name(url)

    async def open(self) -> None:
        """Check that the database is fit for a ledger, and create its tables if needed. Raises CannotOpenError."""
        try:
            async with self.lend(OPEN_SECONDS_MAX) as connection, self.within(OPEN_SECONDS_MAX):
                await migrate(connection, self.name)
                await self._refuse_mark(connection)
                self._opened = True
        except LedgerUnavailableError as error:
            raise CannotOpenError(str(error)) from error
        except asyncpg.PostgresError as error:
            raise CannotOpenError(
                f"cannot open the ledger in the database {self.name}: {on_one_line(error)}; connect as its owner, or as"
                " a user with the rights of its owner"
            ) from error

    @asynccontextmanager
    async def lend(self, seconds: float = TRY_SECONDS_MAX) -> AsyncIterator[PooledConnection]:
        """Lend a connection for the block. It is reused unless the block raises.

        Raises LedgerUnavailableError if there is none within ``seconds``.
        """
        async with self.within(seconds):
            connection = await self._take()
        try:
            yield connection
        except LedgerUnavailableError:
            # The idle connections may be broken too. Await nothing before this one is terminated: the driver would ask
            # the database to cancel its statement, which may be a commit.
            connection.terminate()
            self.close()
            raise
        except BaseException:
            connection.terminate()
            raise
        self._idle.append(connection)

    def close(self) -> None:
        """Close all idle connections, without waiting for the database."""
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Limit the time of the block, and translate its errors.

        Raises LedgerUnavailableError if it takes longer than ``seconds`` or the connection breaks, StorageFullError if
        the database has no room, and EventsLockedError if another daemon keeps an event locked. Other errors of
        PostgreSQL, about the statements themselves, pass through.
        """
        with translated_errors(self.name):
            async with asyncio.timeout(seconds):
                yield

    async def _take(self) -> PooledConnection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        connection = await connect(self._url, self.name)
        try:
            await connection.execute(_SETTINGS)
            if connection.get_server_version().major >= VERSION_WITH_TRANSACTION_TIMEOUT:
                await connection.execute(f"SET transaction_timeout = {TRANSACTION_MILLISECONDS_MAX}")
                connection.lift_timeouts += "; SET LOCAL transaction_timeout = 0"
            await presence.lock_shared(connection, self.name)
            if self._opened:
                await self._refuse_mark(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _refuse_mark(self, connection: PooledConnection) -> None:
        """Raise LedgerUnavailableError if the ledger has a mark. It gets none while the connection is open."""
        if refused := refusal(await read_mark(connection), without_password(self._url)):
            raise LedgerUnavailableError(refused)


async def connect(url: str, name: str) -> PooledConnection:
    """Return a connection to a database that is fit for a ledger. ``name`` is its name in messages.

    Raises LedgerUnavailableError and the errors of asyncpg.
    """
    connection = await asyncpg.connect(
        url, timeout=OPEN_SECONDS_MAX, max_cached_statement_lifetime=0, connection_class=PooledConnection
    )
    try:
        [server] = await connection.fetch(_FITNESS)
        _check_fitness(server, name)
    except BaseException:
        connection.terminate()
        raise
    return connection


def _check_fitness(server: asyncpg.Record, name: str) -> None:
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
        reason = f"is in {server['encoding']}, which lacks many letters; create a database in UTF8"
    if reason:
        raise LedgerUnavailableError(f"the database {name} {reason}")


def on_one_line(error: asyncpg.PostgresError) -> str:
    """Return the message of an error with its details and hints, which have lines of their own, on one line."""
    return "; ".join(str(error).splitlines())


@contextmanager
def translated_errors(name: str) -> Iterator[None]:
    """Translate the errors of asyncpg and of the network into those of a ledger; see ``Pool.within``."""
    try:
        yield
    except asyncpg.LockNotAvailableError:
        raise EventsLockedError from None
    except asyncpg.DiskFullError as error:
        raise StorageFullError(f"there is no room for the database {name}: {on_one_line(error)}") from None
    except TimeoutError:
        raise LedgerUnavailableError(f"the database {name} does not answer in time") from None
    except OSError as error:
        reason = error.strerror or str(error)
        hint = ". Is PostgreSQL running?" if error.errno else ""
        raise LedgerUnavailableError(f"cannot reach the database {name} ({reason.lower()}){hint}") from error
    except asyncpg.ClientConfigurationError as error:
        raise LedgerUnavailableError(f"the URL of the database {name} cannot be used: {error}") from error
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise LedgerUnavailableError(f"the connection to the database {name} broke") from error
    except asyncpg.PostgresError as error:
        if error.sqlstate and error.sqlstate.startswith(_UNAVAILABLE):
            raise LedgerUnavailableError(f"the database {name} does not serve: {on_one_line(error)}") from error
        raise
