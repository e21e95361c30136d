"""While the synchronous standby is away, commits hang on few connections, and the daemon says what is wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.daemon import Connection, running, until, write_events
from tests.postgres import Postgres, name_of, query
from ticketd.ledger.base import CannotOpenError, LedgerUnavailableError
from ticketd.ledger.postgres import pool as pool_module
from ticketd.ledger.postgres.pool import CONNECTIONS_MAX, Pool

SECONDS_MAX = 20.0
AWAY = "waits for a synchronous standby that is away; bring it back, or remove it from synchronous_standby_names"
COUNT = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'ticketd'"
CLIENTS = 20


@pytest.fixture
def server(bundled_postgres: Postgres) -> Iterator[Postgres]:
    """A PostgreSQL that gets its settings back."""
    yield bundled_postgres
    standby_is_away(bundled_postgres, away=False)


@pytest.fixture
def own(server: Postgres) -> Iterator[str]:
    """The URL of an empty database in it."""
    url = server.new_database()
    yield url
    standby_is_away(server, away=False)
    server.give_back(url)


def standby_is_away(server: Postgres, *, away: bool) -> None:
    """Let commits wait for a standby that does not exist, or for none."""
    url = server.url("postgres")
    query(url, f"ALTER SYSTEM SET synchronous_standby_names = '{'away' if away else ''}'")
    query(url, "SELECT pg_reload_conf()")
    until(lambda: query(url, "SHOW synchronous_standby_names")[0][0] == ("away" if away else ""))


def can_buy(client: Connection) -> bool:
    return "code" not in client.ask("book 1 1")


async def retry(work: Callable[[], Awaitable[None]]) -> None:
    """Do some work again and again until the database serves it."""
    while True:
        with suppress(LedgerUnavailableError):
            return await work()
        await asyncio.sleep(0.05)


def test_a_standby_that_is_away_costs_ten_connections(server: Postgres, own: str, tmp_path: Path) -> None:
    # Takes 10 s: requests wait until they are given up, several times over.
    write_events(tmp_path, 10_000)
    limits = ("--commit-seconds-max", "1", "--queue-seconds-max", "1")
    with running(tmp_path, "--ledger", own, *limits) as daemon, ExitStack() as stack:
        crowd = [stack.enter_context(daemon.connect()) for _ in range(CLIENTS)]
        standby_is_away(server, away=True)
        codes = set()
        for _ in range(3):
            for number, client in enumerate(crowd):
                client.send(b"book 1 1\n" if number % 2 else b"hold 1 1\n")
            for client in crowd:
                codes.add(client.read()["code"])
                assert query(own, COUNT, name_of(own))[0][0] <= CONNECTIONS_MAX
        assert codes <= {"busy", "outcome_unknown"}
        daemon.wait_line(AWAY)
        standby_is_away(server, away=False)
        for client in crowd:
            until(partial(can_buy, client))
        assert daemon.end() == 0


def test_every_daemon_says_that_the_standby_is_away(server: Postgres, own: str, tmp_path: Path) -> None:
    # Takes 5 s: a standby is away once a commit has waited for a second, and a daemon not ready after two more.
    write_events(tmp_path, 100)
    with ExitStack() as stack:
        flags = ("--ledger", own, "--queue-seconds-max", "1")
        sells, idle = (stack.enter_context(running(tmp_path, *flags)) for _ in range(2))
        buyer, balancer = (stack.enter_context(daemon.connect()) for daemon in (sells, idle))
        assert buyer.ask("book 1 1")["version"] == 1
        standby_is_away(server, away=True)
        buyer.send(b"book 1 1\n")
        idle.wait_line(f"not ready: .*{AWAY}")
        until(lambda: AWAY in balancer.ask("ready").get("message", ""))
        # Nor is it ready after requests that need no commit.
        assert balancer.ask("book 1 1000")["code"] in ("sold_out", "busy")
        assert AWAY in balancer.ask("ready")["message"]
        standby_is_away(server, away=False)
        until(lambda: balancer.ask("ready") == {"reply": "ready"})
        assert balancer.ask("book 1 1")["state"] == "confirmed"


def test_what_a_crash_shows_early_waits_for_the_standby(server: Postgres, own: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with ExitStack() as stack:
        daemon = stack.enter_context(running(tmp_path, "--ledger", own, "--queue-seconds-max", "1"))
        first, *others = (stack.enter_context(daemon.connect()) for _ in range(4))
        standby_is_away(server, away=True)
        first.send(b"book 1 1 --booking mine\n")
        until(lambda: query(own, waiting)[0][0] > 0)
        server.stop("immediate")
        server.start()
        # The primary has the booking now, and its standby would not have it.
        assert query(own, "SELECT count(*) FROM ticketd.bookings")[0][0] == 1
        for client, line in zip(others, ("book 1 1 --booking mine", "show mine", "bookings"), strict=True):
            client.send(f"{line}\n".encode())
        for client in others:
            assert client.read()["code"] in ("busy", "outcome_unknown")
        standby_is_away(server, away=False)
        until(lambda: others[0].ask("show mine").get("state") == "confirmed")


async def test_a_start_without_the_standby_says_so(server: Postgres, own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The database has ten seconds for its tables.
    monkeypatch.setattr(pool_module, "OPEN_SECONDS_MAX", 1.0)
    await asyncio.to_thread(standby_is_away, server, away=True)
    with pytest.raises(CannotOpenError, match=AWAY):
        await Pool(own).open()


async def test_a_standby_confirms_a_connection_again_and_again(
    server: Postgres, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "SYNCED_SECONDS_MAX", 0.0)
    pool = Pool(own)
    await pool.open()
    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(LedgerUnavailableError, match="does not answer in time"):
            async with pool.lend() as connection:
                await pool.sync(connection)
                await asyncio.to_thread(standby_is_away, server, away=True)
                async with pool.within(0.5):
                    await pool.sync(connection)
    pool.close()


async def test_leftovers_do_not_wait_for_the_standby_at_a_start(server: Postgres, own: str) -> None:
    pool = Pool(own)
    await pool.open()
    pool.close()
    query(own, "INSERT INTO ticketd.commits (connection, at) VALUES ('old', now() - interval '2 days')")
    await asyncio.to_thread(standby_is_away, server, away=True)
    pool = Pool(own)
    await pool.open()
    pool.close()
    assert query(own, "SELECT connection FROM ticketd.commits") == []


async def test_no_more_than_ten_connections_are_opened(own: str) -> None:
    pool = Pool(own)
    await pool.open()
    async with asyncio.timeout(SECONDS_MAX), AsyncExitStack() as stack:
        for _ in range(CONNECTIONS_MAX - 1):
            await stack.enter_async_context(pool.lend())
        with pytest.raises(LedgerUnavailableError, match="this daemon has 9 connections to the database"):
            await stack.enter_async_context(pool.lend())
    pool.close()


async def test_no_commit_begins_while_an_earlier_one_hangs(server: Postgres, own: str) -> None:
    pool = Pool(own)
    await pool.open()
    await asyncio.to_thread(standby_is_away, server, away=True)
    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(LedgerUnavailableError, match="does not answer in time"):
            async with pool.lend() as connection, pool.within(0.5):
                await connection.execute("CREATE TABLE public.hangs ()")
        with pytest.raises(LedgerUnavailableError, match=AWAY):
            await pool.check_no_commit_hangs()
        assert AWAY in (await pool.why_commits_hang() or "")
        await asyncio.to_thread(standby_is_away, server, away=False)
        await retry(pool.check_no_commit_hangs)
        assert await pool.why_commits_hang() is None
    pool.close()


async def test_hung_backends_count_until_they_have_ended(server: Postgres, own: str) -> None:
    pool = Pool(own)
    await pool.open()
    await asyncio.to_thread(standby_is_away, server, away=True)

    async def commit() -> None:
        async with pool.lend() as connection, pool.within(0.1):
            await connection.execute("INSERT INTO commits VALUES (gen_random_uuid())")

    async with asyncio.timeout(SECONDS_MAX):
        reasons = set[str]()
        while not any("this daemon has 9 connections" in reason for reason in reasons):
            with pytest.raises(LedgerUnavailableError) as raised:
                await commit()
            reasons.add(str(raised.value))
        [(count,)] = query(own, COUNT, name_of(own))
        assert 1 < count <= CONNECTIONS_MAX
        await asyncio.to_thread(standby_is_away, server, away=False)
        await retry(commit)
    pool.close()
