"""Several hosts in the URL: sales are on the newest primary, whichever host hangs, comes back or is promoted."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.daemon import Daemon, running, until, write_events
from tests.faults.proxy import Fault, Proxy
from tests.postgres import Postgres, name_of, query
from ticketd.ledger.base import CannotOpenError, LedgerUnavailableError
from ticketd.ledger.postgres.pool import Pool

SECONDS_MAX = 20.0
# A connection breaks within about a second of a promotion: the pool looks at the standby once a second.
NOTICED_SECONDS_MAX = 3.0


@pytest.fixture
def primary(bundled_postgres: Postgres) -> Postgres:
    """A primary. It stays one on timeline 1, whatever becomes of its standbys."""
    return bundled_postgres


@pytest.fixture
def standby(primary: Postgres, at: str) -> Iterator[Postgres]:
    """A standby of it."""
    with Postgres(standby_of=primary) as standby:
        yield standby


@pytest.fixture
def at(primary: Postgres) -> Iterator[str]:
    """The name of an empty database on the primary, and on the standby."""
    url = primary.new_database()
    yield name_of(url)
    primary.give_back(url)


def url_of(database: str, *servers: Postgres | str) -> str:
    """Return a URL with several hosts; each is a server or another URL."""
    hosts = [urlsplit(each if isinstance(each, str) else each.url(database)).netloc for each in servers]
    return f"postgresql://postgres@{','.join(host.rpartition('@')[2] for host in hosts)}/{database}"


def catch_up(standby: Postgres, primary: Postgres) -> None:
    """Wait until a standby has all that was committed."""
    [(written,)] = query(primary.url("postgres"), "SELECT pg_current_wal_flush_lsn()::text")
    has_it = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn"
    until(lambda: query(standby.url("postgres"), has_it, written)[0][0])


def promote(standby: Postgres) -> None:
    """Make a primary of a standby, while the other one goes on."""
    assert query(standby.url("postgres"), "SELECT pg_promote()")[0][0]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Pool]:
    pool = Pool(url)
    try:
        async with asyncio.timeout(SECONDS_MAX):
            await pool.open()
            yield pool
    finally:
        pool.close()


@contextmanager
def hung() -> Iterator[str]:
    """The URL of a host that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"postgresql://127.0.0.1:{listener.getsockname()[1]}/postgres"


async def port_in_use(pool: Pool) -> int:
    async with pool.lend() as connection, pool.within(SECONDS_MAX):
        port: int = await connection.fetchval("SELECT current_setting('port')::int")
        return port


async def until_at(pool: Pool, server: Postgres) -> None:
    """Wait until the pool lends connections to a server."""
    async with asyncio.timeout(NOTICED_SECONDS_MAX):
        while True:
            try:
                if await port_in_use(pool) == server.port:
                    return
            except LedgerUnavailableError:
                pass
            await asyncio.sleep(0.02)


async def next_error(pool: Pool) -> str:
    """Borrow connections until that fails, and return the message of the error."""
    while True:
        try:
            async with pool.lend():
                await asyncio.sleep(0.02)
        except LedgerUnavailableError as error:
            return str(error)


# Which host


async def test_of_two_primaries_the_newer_one_is_sold_from(primary: Postgres, standby: Postgres, at: str) -> None:
    catch_up(standby, primary)
    promote(standby)
    for url in (url_of(at, primary, standby), url_of(at, standby, primary)):
        async with opened(url) as pool:
            assert await port_in_use(pool) == standby.port


async def test_hosts_that_hang_or_refuse_do_not_stop_the_start(primary: Postgres, standby: Postgres, at: str) -> None:
    with hung() as first, hung() as last, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refuses = f"postgresql://127.0.0.1:{closed.getsockname()[1]}/postgres"
        async with opened(url_of(at, first, refuses, standby, primary, last)) as pool:
            assert await port_in_use(pool) == primary.port


async def test_without_a_primary_each_host_is_named(primary: Postgres, standby: Postgres, at: str) -> None:
    primary.stop("immediate")
    try:
        with hung() as hangs, pytest.raises(CannotOpenError) as raised:
            async with opened(url_of(at, hangs, primary, standby)):
                pass
    finally:
        primary.start()
    assert f":{urlsplit(hangs).port}/{at} does not answer in time" in str(raised.value)
    assert f"cannot reach the database 127.0.0.1:{primary.port}/{at} (" in str(raised.value)
    assert f"127.0.0.1:{standby.port}/{at} is a standby" in str(raised.value)


async def test_two_hosts_of_different_clusters_are_refused(primary: Postgres, at: str) -> None:
    with Postgres() as another:
        query(another.url("postgres"), f"CREATE DATABASE {at}")
        with pytest.raises(CannotOpenError) as raised:
            async with opened(url_of(at, primary, another)):
                pass
        for server in (primary, another):
            [(system,)] = query(server.url(at), "SELECT system_identifier FROM pg_control_system()")
            assert f"timeline 1 of the system {system}" in str(raised.value)


# Promotion


async def test_a_promotion_breaks_every_connection_to_the_old(primary: Postgres, standby: Postgres, at: str) -> None:
    async with opened(url_of(at, primary, standby)) as pool:
        async with asyncio.timeout(SECONDS_MAX):
            with pytest.raises(LedgerUnavailableError, match=r"the connection to the database .* broke"):
                async with pool.lend() as connection, pool.within(SECONDS_MAX):
                    await asyncio.to_thread(catch_up, standby, primary)
                    await asyncio.to_thread(promote, standby)
                    # Only the pool breaks it, when it sees the standby promoted. PostgreSQL would end it after 5 s.
                    await connection.execute("SELECT pg_sleep(4)")
        assert await port_in_use(pool) == standby.port
        [(timeline,)] = query(standby.url(at), "SELECT timeline FROM ticketd.ledger")
        assert timeline == 2
        # One connection stays, to look whether the old primary is promoted in turn.
        idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND state = 'idle' AND pid <> pg_backend_pid()"
        await asyncio.to_thread(until, lambda: query(primary.url(at), idle, at)[0][0] <= 1)


async def test_a_primary_that_hangs_stops_sales_for_seconds_only(primary: Postgres, standby: Postgres, at: str) -> None:
    with Proxy(primary.url(at)) as proxy:
        async with opened(url_of(at, proxy.url, standby)) as pool:
            assert await port_in_use(pool) == primary.port
            await asyncio.to_thread(catch_up, standby, primary)
            # Nothing passes any more, and new connections are accepted.
            proxy.inject([Fault("client", "message", 0, 0.0, "part")])
            asking = asyncio.create_task(port_in_use(pool))
            await asyncio.to_thread(promote, standby)
            await until_at(pool, standby)
            asking.cancel()


async def test_an_old_primary_that_comes_back_is_not_sold_from(
    primary: Postgres, standby: Postgres, at: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(url_of(at, primary, standby)) as pool:
        await asyncio.to_thread(catch_up, standby, primary)
        await asyncio.to_thread(primary.stop, "immediate")
        try:
            await asyncio.to_thread(promote, standby)
            await until_at(pool, standby)
        finally:
            await asyncio.to_thread(primary.start)
        await asyncio.to_thread(until, lambda: "is an old primary" in caplog.text)
        assert await port_in_use(pool) == standby.port
        # Not even when it is the only one.
        await asyncio.to_thread(standby.stop, "immediate")
        async with asyncio.timeout(SECONDS_MAX):
            while "is an old primary" not in (reason := await next_error(pool)):
                pass
        assert f"127.0.0.1:{primary.port}/{at} is an old primary, on timeline 1 of" in reason
        assert f"this daemon has sold from 127.0.0.1:{standby.port} on timeline 2 of" in reason
        assert "make it a standby of the newest primary" in reason


# What the ledger says


def test_a_ledger_from_a_newer_primary_is_not_sold_from(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path, "--ledger", database) as daemon:
        daemon.end()
    query(database, "UPDATE ticketd.ledger SET timeline = 7")
    daemon = Daemon("--port", "0", "--ledger", database, cwd=tmp_path)
    assert daemon.wait() == 5
    assert "is an old primary, on timeline 1 of" in daemon.lines[-1]
    assert "its ledger was last sold from on timeline 7 of" in daemon.lines[-1]


async def test_a_restored_ledger_is_accepted_at_the_start_only(database: str, caplog: pytest.LogCaptureFixture) -> None:
    recorded = "SELECT system_identifier, timeline FROM ticketd.ledger"
    async with opened(database) as pool:
        before = query(database, recorded)
        query(database, "UPDATE ticketd.ledger SET system_identifier = 7, timeline = 9")
        with pytest.raises(LedgerUnavailableError, match="its ledger is from timeline 9 of the system 7; if it was"):
            async with pool.lend(), pool.lend(), pool.lend():
                pass
        assert query(database, recorded) != before
    caplog.set_level(logging.INFO)
    async with opened(database):
        assert query(database, recorded) == before
    assert "its ledger is from timeline 9 of the system 7: it was restored" in caplog.text
