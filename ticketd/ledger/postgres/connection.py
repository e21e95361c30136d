"""Owns one connection to a database: opens it, checks that a ledger may be sold from there, and translates its errors.

Every wait has a limit, on both sides: the database ends a transaction whose daemon is silent, since other daemons may
wait for an event that it has locked.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from ticketd.ids import new_id
from ticketd.ledger.base import EventsLockedError, LedgerUnavailableError, StorageFullError
from ticketd.ledger.postgres.cluster import CLUSTER, Cluster
from ticketd.ledger.postgres.schema import SCHEMA
from ticketd.ledger.postgres.url import Host

# A batch locks an event for milliseconds. If it takes longer, the batches of other events must not wait for it.
LOCK_MILLISECONDS_MAX = 500
# The database ends a transaction in which the daemon has been silent for this long.
SILENCE_MILLISECONDS_MAX = 1_000
# The same if part of a message has arrived: PostgreSQL does not count that as silence.
TRANSACTION_MILLISECONDS_MAX = 5_000
SERVER_VERSION_MIN = 130_000
VERSION_WITH_TRANSACTION_TIMEOUT = 17
# A number below that of every transaction.
XMIN_START = "0"

# A commit is synced before it is acknowledged, by a synchronous standby too. ``remote_apply`` promises more, and stays.
SYNC_COMMITS = """
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') <> 'remote_apply'
"""
# Every row is found by an index. By the statistics of a new table, PostgreSQL would plan scans, and joins without
# indexes, and keep these plans. Just-in-time compilation takes longer than any statement here.
_SETTINGS = f"""
SET search_path = {SCHEMA};
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
{SYNC_COMMITS};
"""
# Names one backend: with the time when it began, since numbers of processes are used again.
BACKEND = "pid || ' ' || extract(epoch FROM backend_start)"
_FITNESS = f"""
SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS standby,
    current_setting('transaction_read_only')::bool AS read_only, current_setting('fsync')::bool AS fsync,
    current_setting('full_page_writes')::bool AS full_page_writes, current_setting('server_encoding') AS encoding,
    {CLUSTER},
    (SELECT {BACKEND} FROM pg_stat_activity WHERE pid = pg_backend_pid()) AS backend
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
        # Lifts the time limits of the database, but not those of the daemon, for one transaction with very much to do.
        self.lift_timeouts = "SET LOCAL statement_timeout = 0"
        # The changes of all transactions with lower numbers have been read on this connection.
        self.seen_xmin = XMIN_START
        # When the last commit on it began, by the monotonic clock, in seconds: see ``Pool.sync``.
        self.synced_at = -math.inf
        # The cluster that it leads to, and the name of its backend (see BACKEND), once ``check_fitness`` knows them.
        self.cluster = Cluster(0, 0)
        self.backend = ""

    def break_off(self) -> None:
        """End it as a broken network does, although another task uses it, which gets an error of the connection.

        ``terminate`` is for whoever uses it: it takes the protocol away from under others.
        """
        self._transport.abort()  # type: ignore[attr-defined]


async def open_connection(url: str, host: Host) -> PooledConnection:
    """Return a connection to whatever listens on ``host``. Raises the errors of asyncpg and of the network."""
    return await asyncpg.connect(
        url,
        host=host.name,
        port=host.port,
        max_cached_statement_lifetime=0,
        connection_class=PooledConnection,
    )


async def check_fitness(connection: PooledConnection, name: str) -> None:
    """Check that the database is fit for a ledger, and set ``cluster`` and ``backend`` of the connection.

    ``name`` is the name of the database in messages. Raises LedgerUnavailableError.
    """
    [server] = await connection.fetch(_FITNESS)
    reason = None
    if server["version"] < SERVER_VERSION_MIN:
        reason = f"is older than PostgreSQL {SERVER_VERSION_MIN // 10_000}; upgrade it"
    elif server["standby"]:
        reason = (
            "is a standby, and cannot sell; give the address of the primary, or promote it if that is gone for good"
        )
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
    connection.cluster = Cluster(server["system"], server["timeline"])
    connection.backend = server["backend"]


async def prepare(connection: PooledConnection) -> None:
    """Make the settings of a session that a daemon needs. Raises the errors of asyncpg."""
    await connection.execute(_SETTINGS)
    if connection.get_server_version().major >= VERSION_WITH_TRANSACTION_TIMEOUT:
        await connection.execute(f"SET transaction_timeout = {TRANSACTION_MILLISECONDS_MAX}")
        connection.lift_timeouts += "; SET LOCAL transaction_timeout = 0"


def session_lost(name: str) -> LedgerUnavailableError:
    """Return the error about a pooler that may give each transaction another backend."""
    return LedgerUnavailableError(
        f"a pooler before the database {name} does not keep a session for each connection; set pool_mode = session for"
        " this database (pgbouncer), or give the address of PostgreSQL itself"
    )


def is_refusal(error: Exception) -> bool:
    """Whether the database says that a statement failed, so that it has done nothing."""
    cause = error if isinstance(error, asyncpg.PostgresError) else error.__cause__
    # FATAL ends the connection, perhaps in the middle of a commit.
    return isinstance(cause, asyncpg.PostgresError) and getattr(cause, "severity_en", None) == "ERROR"


def on_one_line(error: asyncpg.PostgresError) -> str:
    """Return the message of an error on one line. Its details and hints, on further lines, follow after semicolons."""
    return "; ".join(str(error).splitlines())


@contextmanager
def translated_errors(name: str) -> Iterator[None]:
    """Translate the errors of asyncpg and of the network into those of a ledger.

    Raises LedgerUnavailableError if no statement can succeed now, StorageFullError if the database has no room, and
    EventsLockedError if another daemon keeps an event locked. Other errors of PostgreSQL pass through.
    """
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
    except (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError) as error:
        # The driver does not confuse its statements, so another backend was asked.
        raise session_lost(name) from error
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        hint = "is it in ~/.pgpass, which only its owner may read, or in PGPASSWORD?"
        hint = hint if isinstance(error, asyncpg.InvalidPasswordError) else "see its pg_hba.conf"
        raise LedgerUnavailableError(f"the database {name} refuses the login: {on_one_line(error)}; {hint}") from error
    except asyncpg.UndefinedObjectError as error:
        # Only a connection has such parameters.
        raise LedgerUnavailableError(f"the URL of the database {name} cannot be used: {on_one_line(error)}") from error
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise LedgerUnavailableError(f"the connection to the database {name} broke") from error
    except asyncpg.PostgresError as error:
        if error.sqlstate and error.sqlstate.startswith(_UNAVAILABLE):
            raise LedgerUnavailableError(f"the database {name} does not serve: {on_one_line(error)}") from error
        raise
