"""The proxy breaks connections to PostgreSQL where it is asked to, and nowhere else."""

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


async def test_the_proxy_passes_traffic_unchanged_without_faults(proxy: Proxy) -> None:
    async with connected(proxy.url) as connection:
        text = "x" * 3_000_000
        assert await connection.fetchval("SELECT $1::text", text) == text
        await sell(connection, 1)
    assert await sold(proxy.url) == [1]
    assert proxy.struck.empty()


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("part", [0.0, 0.5])
async def test_a_commit_cut_before_it_arrives_whole_does_not_happen(
    how: How, part: float, proxy: Proxy, sales: str
) -> None:
    async with connected(proxy.url) as connection:
        await sell(connection, 1)
        proxy.inject([Fault("client", "commit", 1, part, how)])
        await sell(connection, 2)
        with pytest.raises(BROKEN):
            await sell(connection, 3)
    assert await sold(sales) == [1, 2]
    assert proxy.struck.qsize() == 1


@pytest.mark.parametrize("how", CUTS)
async def test_a_commit_whose_answer_is_cut_still_happens(how: How, proxy: Proxy, sales: str) -> None:
    async with connected(proxy.url) as connection:
        proxy.inject([Fault("server", "commit", 0, 0, how)])
        with pytest.raises(BROKEN):
            await sell(connection, 1)
    assert await sold(sales) == [1]


async def test_a_transaction_on_a_cut_connection_is_all_or_nothing(proxy: Proxy, sales: str) -> None:
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


async def test_the_proxy_cuts_after_exactly_the_given_bytes(proxy: Proxy, sales: str) -> None:
    statement = "INSERT INTO sales VALUES (1)"
    whole = len(f"Q....{statement}\0")
    for bytes_passed in (whole - 1, whole):
        async with connected(proxy.url) as connection:
            proxy.inject([Fault("client", "byte", bytes_passed, 1, "close")])
            with pytest.raises(BROKEN):
                await connection.execute(statement)
                await connection.execute("SELECT")
        assert await sold(sales) == [1] * (bytes_passed - whole + 1)


async def test_a_frozen_connection_waits_for_its_thaw_and_others_go_on(proxy: Proxy) -> None:
    async with connected(proxy.url) as frozen, connected(proxy.url) as other:
        proxy.inject([Fault("client", "commit", 0, 0.5, "freeze", 0.2)])
        selling = asyncio.create_task(sell(frozen, 1))
        await struck(proxy)
        await sell(other, 2)
        await selling
    assert await sold(proxy.url) == [1, 2]


async def test_a_frozen_connection_does_not_notice_the_peer_closing(proxy: Proxy, sales: str) -> None:
    async with connected(proxy.url) as connection:
        proxy.inject([Fault("client", "commit", 0, 0, "freeze")])
        selling = asyncio.create_task(sell(connection, 1))
        await struck(proxy)
    with pytest.raises(BROKEN):
        await selling
    async with connected(sales) as other:
        with pytest.raises(asyncpg.LockNotAvailableError):
            await other.execute("BEGIN; LOCK TABLE sales NOWAIT")


async def test_a_partition_holds_all_connections_until_it_heals(proxy: Proxy) -> None:
    async with connected(proxy.url) as connection:
        proxy.inject([Fault("server", "message", 0, 0, "part", 0.2)])
        selling = asyncio.create_task(sell(connection, 1))
        await struck(proxy)
        async with connected(proxy.url) as late:
            await sell(late, 2)
        await selling
    assert await sold(proxy.url) == [1, 2]


async def test_a_partition_lasts_until_it_is_healed(proxy: Proxy) -> None:
    async with connected(proxy.url) as connection:
        proxy.partition()
        selling = asyncio.create_task(sell(connection, 1))
        with pytest.raises(TimeoutError):
            await asyncpg.connect(proxy.url, timeout=0.2)
        assert not selling.done()
        proxy.heal()
        await selling
    assert await sold(proxy.url) == [1]
