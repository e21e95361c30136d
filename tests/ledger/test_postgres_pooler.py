"""A pooler before the database works if it keeps sessions, and is refused in words if it does not."""

import asyncpg
import pytest

from tests.faults.pooler import pooling
from ticketd.ledger.base import CannotOpenError, LedgerUnavailableError
from ticketd.ledger.postgres.pool import Pool


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_a_pooler_of_transactions_is_refused_in_words(size: int, database: str) -> None:
    async with pooling(database, "transaction", size) as url:
        pool = Pool(url)
        with pytest.raises(CannotOpenError, match="does not keep a session for each connection; set pool_mode = sess"):
            await pool.open()
        pool.close()


async def test_a_pooler_of_sessions_works(database: str) -> None:
    async with pooling(database, "session") as url:
        pool = Pool(url)
        await pool.open()
        async with pool.lend() as connection, pool.lend() as another:
            assert await connection.fetchval("SHOW search_path") == "ticketd"
            assert connection.backend != another.backend
        pool.close()


async def test_a_statement_that_another_client_prepared_is_understood(database: str) -> None:
    async with pooling(database, "transaction", 2) as url:
        pool = Pool(url)
        others = [await asyncpg.connect(url) for _ in range(2)]
        with pytest.raises(LedgerUnavailableError, match="set pool_mode = session"):
            async with pool.lend() as connection, pool.within(5):
                # A statement that was prepared on one backend is not known on the other.
                await connection.fetch("SELECT 1")
                async with others[0].transaction():
                    await connection.fetch("SELECT 1")
                    await connection.fetch("SELECT 1")
        for other in others:
            other.terminate()
        pool.close()
