"""The proxy breaks connections to PostgreSQL where it was told to, and nowhere else."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count

import asyncpg
import pytest

from tests.faults.proxy import Fault, How, Proxy
from tests.postgres import query

SECONDS_MAX = 20.0
BROKEN = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)
CUTS: list[How] = ["close", "reset"]


@pytest.fixture
def sales(database: str) -> str:
    """The URL of a database with a table ``sales``."""
    query(database, "CREATE TABLE sales (id int PRIMARY KEY)")
    return database


@pytest.fixture
def proxy(sales: str) -> Iterator[Proxy]:
    """A proxy to it."""
    with Proxy(sales) as proxy:
        yield proxy


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    async with asyncio.timeout(SECONDS_MAX):
        connection = await asyncpg.connect(url)
        try:
            yield connection
        finally:
            connection.terminate()


async def sell(connection: asyncpg.Connection, id: int) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO sales VALUES ($1)", id)


async def struck(proxy: Proxy) -> Fault:
    return await asyncio.to_thread(proxy.struck.get, timeout=SECONDS_MAX)


async def sold(url: str) -> list[int]:
    """Return what was sold, once no transaction is under way."""
    async with connected(url) as connection, connection.transaction():
        await connection.execute("LOCK TABLE sales")
        return [row["id"] for row in await connection.fetch("SELECT id FROM sales ORDER BY id")]


async def test_what_no_fault_strikes_passes_unchanged(proxy: Proxy) -> None:
    async with connected(proxy.url) as connection:
        text = "x" * 3_000_000
        assert await connection.fetchval("SELECT $1::text", text) == text
        await sell(connection, 1)
    assert await sold(proxy.url) == [1]
    assert proxy.struck.empty()


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("part", [0.0, 0.5])
async def test_a_commit_that_does_not_arrive_whole_is_not_done(how: How, part: float, proxy: Proxy, sales: str) -> None:
    async with connected(proxy.url) as connection:
        await sell(connection, 1)
        proxy.inject([Fault("client", "commit", 1, part, how)])
        await sell(connection, 2)
        with pytest.raises(BROKEN):
            await sell(connection, 3)
    assert await sold(sales) == [1, 2]
    assert proxy.struck.qsize() == 1


@pytest.mark.parametrize("how", CUTS)
async def test_a_commit_is_done_though_nobody_hears_of_it(how: How, proxy: Proxy, sales: str) -> None:
    async with connected(proxy.url) as connection:
        proxy.inject([Fault("server", "commit", 0, 0, how)])
        with pytest.raises(BROKEN):
            await sell(connection, 1)
    assert await sold(sales) == [1]


async def test_wherever_a_connection_is_cut_a_transaction_is_done_whole_or_not_at_all(proxy: Proxy, sales: str) -> None:
    for id in count():
        # How far it comes is counted from the first byte of the connection.
        proxy.inject([Fault("client", "message", id // 2, 0.7, CUTS[id % 2])])
        try:
            async with connected(proxy.url) as connection:
                await sell(connection, id)
        except BROKEN:
            await struck(proxy)
        else:
            break
    assert id > 10
    assert await sold(sales) == [id]


async def test_a_byte_is_counted_to_the_byte(proxy: Proxy, sales: str) -> None:
    statement = "INSERT INTO sales VALUES (1)"
    whole = len(f"Q....{statement}\0")
    for bytes_passed in (whole - 1, whole):
        async with connected(proxy.url) as connection:
            proxy.inject([Fault("client", "byte", bytes_passed, 1, "close")])
            with pytest.raises(BROKEN):
                await connection.execute(statement)
                await connection.execute("SELECT")
        assert await sold(sales) == [1] * (bytes_passed - whole + 1)


async def test_a_frozen_connection_says_nothing_until_it_thaws_and_the_others_go_on(proxy: Proxy) -> None:
    async with connected(proxy.url) as frozen, connected(proxy.url) as other:
        proxy.inject([Fault("client", "commit", 0, 0.5, "freeze", 0.2)])
        selling = asyncio.create_task(sell(frozen, 1))
        await struck(proxy)
        await sell(other, 2)
        await selling
    assert await sold(proxy.url) == [1, 2]


async def test_a_connection_that_is_frozen_for_good_is_not_even_told_that_the_other_side_went(
    proxy: Proxy, sales: str
) -> None:
    async with connected(proxy.url) as connection:
        proxy.inject([Fault("client", "commit", 0, 0, "freeze")])
        selling = asyncio.create_task(sell(connection, 1))
        await struck(proxy)
    with pytest.raises(BROKEN):
        await selling
    async with connected(sales) as other:
        with pytest.raises(asyncpg.LockNotAvailableError):
            await other.execute("BEGIN; LOCK TABLE sales NOWAIT")


async def test_parted_machines_have_no_connections_until_they_are_together(proxy: Proxy) -> None:
    async with connected(proxy.url) as connection:
        proxy.inject([Fault("server", "message", 0, 0, "part", 0.2)])
        selling = asyncio.create_task(sell(connection, 1))
        await struck(proxy)
        async with connected(proxy.url) as late:
            await sell(late, 2)
        await selling
    assert await sold(proxy.url) == [1, 2]
