"""Reads and writes an embedded ledger that is not served, for ``ticketd move`` and ``ticketd check``."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import islice
from pathlib import Path

import apsw

from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.embedded.files import UNREADABLE, damaged, fold_log, identity_of
from ticketd.ledger.embedded.opening import Opened, Use, open_ledger
from ticketd.ledger.embedded.schema import TOTAL
from ticketd.ledger.marks import MARK_COLUMNS, Mark
from ticketd.ledger.offline import ROWS_AT_ONCE, Row
from ticketd.ledger.rows import TABLES, Table


class EmbeddedReader:
    """Reads from a connection to the ledger at ``path``."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._connection = connection

    async def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        """See LedgerReader."""
        statement = f"SELECT {table.columns} FROM {table.name} ORDER BY {table.order}"
        with self._translated_errors():
            cursor = self._connection.cursor().execute(statement)
            while rows := list(islice(cursor, ROWS_AT_ONCE)):
                yield rows
                # Nothing else here lets the loop run, which handles Ctrl-C.
                await asyncio.sleep(0)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except UNREADABLE as error:
            raise damaged(self._path, error) from error
        except apsw.FullError:
            raise CannotOpenError(f"there is no room for the ledger {self._path}; make room first") from None
        except apsw.Error as error:
            raise CannotOpenError(f"the ledger {self._path} cannot be used: {error}") from error


class EmbeddedOffline(EmbeddedReader):
    """The ledger at ``path``, held exclusively. Raises CannotOpenError.

    If there is none, one is created with the mark ``new``, unless that is None. Its identity must differ from
    ``unlike``.
    """

    def __init__(self, path: Path, new: Mark | None = None, unlike: object = None) -> None:
        self.identity: object = identity_of(path) or path.resolve()
        if self.identity == unlike:
            raise CannotOpenError(f"source and target are the same ledger, {path}; name another target")
        opened: Opened = open_ledger(path, Use(new, served=False))
        super().__init__(opened.connection, path)
        self.address = str(path.resolve())
        self.mark = opened.mark
        self._seal, self._files = opened.seal, opened.files
        self._commits, self._folded = opened.commits, opened.folded
        # The one transaction may not fit into memory.
        self._connection.pragma("cache_spill", True)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[None]:
        """See OfflineLedger. No other process has it open."""
        yield

    async def is_empty(self) -> bool:
        """See OfflineLedger."""
        with self._translated_errors():
            return not any(self._connection.execute(f"SELECT EXISTS (SELECT 1 FROM {t.name})").get for t in TABLES)

    @asynccontextmanager
    async def writing(self, mark: Mark) -> AsyncIterator[None]:
        """See OfflineLedger."""
        with self._translated_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            for table in reversed(TABLES):
                self._connection.execute(f"DELETE FROM {table.name}")
        yield
        self._commit(mark)

    async def add(self, table: Table, rows: Sequence[Row]) -> None:
        """See OfflineLedger."""
        places = ", ".join("?" * len(table.columns.split(", ")))
        with self._translated_errors():
            self._connection.executemany(f"INSERT INTO {table.name} ({table.columns}) VALUES ({places})", rows)

    async def set_mark(self, mark: Mark) -> None:
        """See OfflineLedger."""
        with self._translated_errors():
            self._connection.execute("BEGIN IMMEDIATE")
        self._commit(mark)

    async def finish(self) -> None:
        """See OfflineLedger."""
        with self._translated_errors():
            if fold_log(self._connection):
                # Closing may remove the log: all of it is in the file.
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            await self.close()

    async def close(self) -> None:
        """See OfflineLedger."""
        self._files.close()

    def _commit(self, mark: Mark) -> None:
        with self._translated_errors():
            self._connection.execute(
                f"UPDATE ledger SET (commits, folded, total, {MARK_COLUMNS}) = (?, ?, {TOTAL}, ?, ?, ?)",
                (self._commits + 1, self._folded, *mark),
            )
            self._connection.execute("COMMIT")
            self._commits += 1
            # The seal must be durable too: without it, a ledger whose log was removed would look intact.
            self._seal.renew(self._commits)
        self.mark = mark
