"""The contract of a ledger for ``ticketd move`` and ``ticketd check``: they read and write whole tables, row by row.

A Row is a tuple of the columns of its Table, in the form of the embedded ledger: dates are text in ISO 8601 and UTC,
times are in milliseconds since 1970, JSON has no blanks.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.marks import Mark
from ticketd.ledger.rows import Table

Row = tuple[Any, ...]

# Bounds the memory: a booking has up to a thousand tickets.
ROWS_AT_ONCE = 2_000


def missing_module(error: ModuleNotFoundError) -> CannotOpenError:
    """Return the error for a ledger in PostgreSQL when a package is not installed."""
    return CannotOpenError(f"{error.name} is missing, and a ledger in PostgreSQL needs it: pip install {error.name}")


class LedgerReader(Protocol):
    """Reads a ledger. Its methods raise LedgerDamagedError if it is damaged, or else CannotOpenError."""

    # For messages, such as events.db or postgresql://db.internal/tickets.
    name: str

    def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        """Yield all rows of a table in its order, up to ROWS_AT_ONCE in a list. Two tables may be read in parallel."""
        ...


class OfflineLedger(LedgerReader, Protocol):
    """A ledger that only this process uses until it is closed."""

    # For commands and marks: valid in any folder, and without secrets.
    address: str
    # Equal for the same ledger, whatever it is called.
    identity: object
    mark: Mark

    def snapshot(self) -> AbstractAsyncContextManager[None]:
        """Let everything read in the block be from the same moment."""
        ...

    async def is_empty(self) -> bool:
        """Whether no table has a row in it."""
        ...

    def writing(self, mark: Mark) -> AbstractAsyncContextManager[None]:
        """Replace the content of the ledger by what the block adds, and mark it, in one transaction.

        The ledger is empty when the block begins. Its end makes everything durable; an exception undoes everything.
        """
        ...

    async def add(self, table: Table, rows: Sequence[Row]) -> None:
        """Add rows. Only while ``writing``."""
        ...

    async def set_mark(self, mark: Mark) -> None:
        """Set the mark durably."""
        ...

    async def finish(self) -> None:
        """Close the ledger as a daemon does on a clean exit: no log remains if there is room."""
        ...

    async def close(self) -> None:
        """Close the ledger, unless it is closed. What is durable stays."""
        ...
