"""Finds out whether a commit succeeded whose connection broke."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import asyncpg

from ticketd.ledger.base import EventsLockedError, LedgerUnavailableError, OutcomeUnknownError, StorageFullError
from ticketd.ledger.postgres.connection import PooledConnection
from ticketd.ledger.postgres.pool import TRY_SECONDS_MAX, Pool

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_SECONDS = 0.05

# Waits for the transaction on the connection to end, and returns the batch of the last one that was committed. After
# that, nothing can be saved on the connection: see ``function``.
_FENCE_OFF = """
INSERT INTO commits (connection, fenced) VALUES ($1, true)
ON CONFLICT (connection) DO UPDATE SET fenced = true, at = excluded.at RETURNING batch
"""


class Outcomes:
    """Asks the database of ``pool`` on other connections, for at most ``seconds_max`` each time."""

    def __init__(self, pool: Pool, seconds_max: float) -> None:
        self._pool = pool
        self._seconds_max = seconds_max
        self._loop = asyncio.get_running_loop()

    async def last_batch(self, connection: PooledConnection, error: Exception) -> str | None:
        """Terminate a connection, and return the id of the last batch that was committed on it, or None.

        ``error`` is why the outcome of a commit on it is not known. Raises OutcomeUnknownError.
        """
        log.warning("finding out whether a commit was done: %s", error)
        connection.terminate()

        async def fence_off(another: PooledConnection) -> str | None:
            batch: str | None = await another.fetchval(_FENCE_OFF, connection.name)
            return batch

        return await self.retry(fence_off)

    async def retry(self, work: Callable[[PooledConnection], Awaitable[T]]) -> T:
        """Retry ``work`` until it succeeds. Raises OutcomeUnknownError."""
        deadline = self._loop.time() + self._seconds_max
        while self._loop.time() < deadline:
            # After any of these errors, the next try may succeed.
            with suppress(LedgerUnavailableError, EventsLockedError, StorageFullError, asyncpg.PostgresError):
                async with self._pool.lend() as connection, self._pool.within(TRY_SECONDS_MAX):
                    return await work(connection)
            await asyncio.sleep(RETRY_SECONDS)
        reason = await self._pool.why_commits_hang()
        raise OutcomeUnknownError(
            f"cannot tell after {self._seconds_max:g} s whether the database {self._pool.name} did a commit"
            + (f": {reason}" if reason else "")
        )
