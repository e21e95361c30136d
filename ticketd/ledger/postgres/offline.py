"""Reads and writes a ledger in PostgreSQL, for ``ticketd move``, ``check`` and ``migrate``."""

import io
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import asyncpg
import msgspec

from ticketd.ledger.base import (
    CannotOpenError,
    EventsLockedError,
    LedgerDamagedError,
    LedgerUnavailableError,
    StorageFullError,
)
from ticketd.ledger.marks import MARK_COLUMNS, NO_MARK, Mark
from ticketd.ledger.offline import ROWS_AT_ONCE, Row
from ticketd.ledger.postgres.connection import (
    SYNC_COMMITS,
    VERSION_WITH_TRANSACTION_TIMEOUT,
    PooledConnection,
    on_one_line,
    translated_errors,
)
from ticketd.ledger.postgres.pool import connect
from ticketd.ledger.postgres.presence import lock_exclusive, lock_shared, unlock
from ticketd.ledger.postgres.schema import (
    SCHEMA,
    SCHEMA_VERSION,
    check_owner,
    grant,
    lacks_rights,
    read_mark,
    schema_version,
    upgrade,
)
from ticketd.ledger.postgres.url import public_name, without_password
from ticketd.ledger.rows import TABLES, Table

# Without time limits: no daemon waits for locks of this connection.
_SETTINGS = f"""
SET search_path = {SCHEMA};
{SYNC_COMMITS};
SET idle_in_transaction_session_timeout = 0;
SET statement_timeout = 0;
SET lock_timeout = '10s';
SET tcp_keepalives_idle = 2;
SET tcp_keepalives_interval = 1;
SET tcp_keepalives_count = 3;
SET jit = off;
"""
_IDENTITY = "SELECT pg_postmaster_start_time(), oid FROM pg_database WHERE datname = current_database()"
_SET_MARK = f"UPDATE ledger SET ({MARK_COLUMNS}) = ($1, $2, $3)"
# Events that are created later get higher numbers than those that were added.
_GO_ON_NUMBERING = f"""
SELECT setval(pg_get_serial_sequence('{SCHEMA}.events', 'number'), max(number)) FROM events HAVING max(number) > 0
"""

# The text format of COPY (https://www.postgresql.org/docs/current/sql-copy.html): escapes separators and backslashes.
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})

# SQLSTATE codes, or the beginnings of their classes, that show damage: missing columns, unreadable files and blocks.
_DAMAGE = ("42703", "58", "XX")


def _without_blanks(json: str) -> str:
    return msgspec.json.encode(msgspec.json.decode(json)).decode()


# Columns that asyncpg returns in another form than a Row has.
_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "date": msgspec.to_builtins,
    "paused": int,
    "original": _without_blanks,
    "tickets": _without_blanks,
    "changes": _without_blanks,
}


def _converted(table: Table, rows: Sequence[Any]) -> list[Row]:
    names = table.columns.split(", ")
    conversions = [(place, _CONVERSIONS[name]) for place, name in enumerate(names) if name in _CONVERSIONS]
    converted = []
    for row in rows:
        values = list(row)
        for place, convert in conversions:
            if values[place] is not None:
                values[place] = convert(values[place])
        converted.append(tuple(values))
    return converted


def _copied(rows: Sequence[Row]) -> bytes:
    """Return rows in the text format of COPY."""
    lines = ("\t".join("\\N" if v is None else str(v).translate(_ESCAPES) for v in row) + "\n" for row in rows)
    return "".join(lines).encode()


class PostgresReader:
    """Reads the ledger on a connection. ``name`` is the name of the database in messages."""

    def __init__(self, connection: PooledConnection, name: str) -> None:
        self.name = f"postgresql://{name}"
        self._database = name
        self._connection = connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[None]:
        """See OfflineLedger. ``rows`` may only be called in it, or while ``writing``."""
        with self.translated_errors():
            transaction = self._connection.transaction(isolation="repeatable_read", readonly=True)
            await transaction.start()
        yield
        with self.translated_errors():
            await transaction.rollback()

    async def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        """See LedgerReader."""
        with self.translated_errors():
            cursor = await self._connection.cursor(f"SELECT {table.columns} FROM {table.name} ORDER BY {table.order}")
            while rows := await cursor.fetch(ROWS_AT_ONCE):
                yield _converted(table, rows)

    async def close(self) -> None:
        """Close the connection, without waiting for the database."""
        self._connection.terminate()

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Translate all errors of the database into CannotOpenError, or LedgerDamagedError for damage."""
        with _translated_errors(self._database):
            try:
                yield
            except asyncpg.InsufficientPrivilegeError as error:
                raise lacks_rights(self._connection, self._database, error) from error
            except asyncpg.PostgresError as error:
                if not (error.sqlstate or "").startswith(_DAMAGE):
                    raise
                raise LedgerDamagedError(f"the database {self._database} says: {on_one_line(error)}") from error


class PostgresOffline(PostgresReader):
    """The ledger at ``url``; see ``open``."""

    def __init__(self, connection: PooledConnection, url: str, identity: object) -> None:
        super().__init__(connection, public_name(url))
        self.address = without_password(url)
        self.identity = identity
        self.mark = NO_MARK

    @classmethod
    async def open(cls, url: str, new: Mark | None = None, unlike: object = None) -> "PostgresOffline":
        """Return the ledger at ``url``, held exclusively until it is closed. Raises CannotOpenError.

        It must exist unless ``new`` is given; then ``writing`` creates its tables. Its identity must differ from
        ``unlike``.
        """
        connection = await _connect(url)
        try:
            with _translated_errors(public_name(url)):
                ledger = cls(connection, url, tuple(*await connection.fetch(_IDENTITY)))
            with ledger.translated_errors():
                await ledger._enter(new, unlike)
        except BaseException:
            connection.terminate()
            raise
        return ledger

    async def _enter(self, new: Mark | None, unlike: object) -> None:
        if self.identity == unlike:
            raise CannotOpenError(f"source and target are the same database, {self._database}; name another target")
        await lock_exclusive(self._connection, self._database)
        if await schema_version(self._connection, self._database) is not None:
            await upgrade(self._connection, self._database)
            self.mark = await read_mark(self._connection)
        elif new is None:
            raise _no_ledger(self._database)

    async def is_empty(self) -> bool:
        """See OfflineLedger."""
        with self.translated_errors():
            if await schema_version(self._connection, self._database) is None:
                return True
            has_rows = " OR ".join(f"EXISTS (SELECT FROM {table.name})" for table in TABLES)
            return not await self._connection.fetchval(f"SELECT {has_rows}")

    @asynccontextmanager
    async def writing(self, mark: Mark) -> AsyncIterator[None]:
        """See OfflineLedger."""
        with self.translated_errors():
            transaction = self._connection.transaction()
            await transaction.start()
            await upgrade(self._connection, self._database)
            await check_owner(self._connection, self._database, "move a sale to it")
            await self._connection.execute(f"TRUNCATE {', '.join(table.name for table in TABLES)}")
        yield
        with self.translated_errors():
            await self._connection.execute(_GO_ON_NUMBERING)
            await self._connection.execute(_SET_MARK, *mark)
            # From now on it may be committed, even if that fails.
            self.mark = mark
            await transaction.commit()

    async def add(self, table: Table, rows: Sequence[Row]) -> None:
        """See OfflineLedger."""
        with self.translated_errors():
            # As text: asyncpg would encode the first and the last date of Python as infinity.
            await self._connection.copy_to_table(
                table.name, source=io.BytesIO(_copied(rows)), schema_name=SCHEMA, columns=table.columns.split(", ")
            )

    async def set_mark(self, mark: Mark) -> None:
        """See OfflineLedger."""
        with self.translated_errors():
            await self._connection.execute(_SET_MARK, *mark)
        self.mark = mark

    async def finish(self) -> None:
        """See OfflineLedger."""
        # If that fails, the connection is broken, and its lock ends with it.
        with suppress(CannotOpenError), self.translated_errors():
            await unlock(self._connection)
        await self.close()


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[tuple[PostgresReader, Mark]]:
    """Read the ledger at ``url``, and its mark, on one snapshot, while daemons may sell. Raises CannotOpenError."""
    name = public_name(url)
    connection = await _connect(url)
    try:
        reader = PostgresReader(connection, name)
        with reader.translated_errors():
            version = await schema_version(connection, name)
        if version is None:
            raise _no_ledger(name)
        if version != SCHEMA_VERSION:
            raise CannotOpenError(
                f"the ledger in the database {name} has schema {version}, and this ticketd checks schema"
                f" {SCHEMA_VERSION} only; run ticketd migrate, or check it with the ticketd that sells"
            )
        async with reader.snapshot():
            with reader.translated_errors():
                mark = await read_mark(connection)
            yield reader, mark
    finally:
        connection.terminate()


async def migrate_tables(url: str, role: str | None) -> str:
    """Create or upgrade the tables at ``url`` as their owner, and let ``role`` sell from them, if one is given.

    Returns the name of the ledger. Daemons may sell meanwhile. Raises CannotOpenError.
    """
    name = public_name(url)
    connection = await _connect(url)
    try:
        with _translated_errors(name):
            await lock_shared(connection, name)
            async with connection.transaction():
                await upgrade(connection, name)
                if role is not None:
                    await grant(connection, role, name)
    finally:
        connection.terminate()
    return f"postgresql://{name}"


async def _connect(url: str) -> PooledConnection:
    name = public_name(url)
    with _translated_errors(name):
        connection = await connect(url, name)
        try:
            await connection.execute(_SETTINGS)
            if connection.get_server_version().major >= VERSION_WITH_TRANSACTION_TIMEOUT:
                await connection.execute("SET transaction_timeout = 0")
        except BaseException:
            connection.terminate()
            raise
        return connection


def _no_ledger(name: str) -> CannotOpenError:
    return CannotOpenError(f"there is no ledger in the database {name}")


@contextmanager
def _translated_errors(name: str) -> Iterator[None]:
    """Translate all errors of the database into CannotOpenError."""
    try:
        with translated_errors(name):
            yield
    except EventsLockedError:
        raise CannotOpenError(f"another program has locked the tables of the database {name}; try again") from None
    except (LedgerUnavailableError, StorageFullError) as error:
        raise CannotOpenError(str(error)) from error
    except asyncpg.PostgresError as error:
        raise CannotOpenError(f"the database {name} refuses it: {on_one_line(error)}") from error
