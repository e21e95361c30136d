"""What is promised when the connection between a daemon and PostgreSQL breaks, freezes or comes back late."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import SECONDS_MAX
from tests.daemon import until, write_events
from tests.faults import connection
from tests.faults.fleet import Fleet
from tests.faults.proxy import Fault, How, Proxy, Side
from tests.ledgers import PostgresStorage, transact
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.config import Limits
from ticketd.ledger.base import LedgerUnavailableError
from ticketd.wire.replies import BookingReply, ErrorReply
from ticketd.wire.requests import Book, Create, Redeem

FAULTS = 40
SIDES: list[Side] = ["client", "server"]
HOWS: list[How] = ["close", "reset"]
# Over all that a booking takes.
MESSAGES_PASSED = range(0, 18, 3)


@pytest.fixture
def proxy(database: str) -> Iterator[Proxy]:
    """A proxy to an empty database."""
    with Proxy(database) as proxy:
        yield proxy


def test_broken_database_connections_lose_and_double_no_change(
    chance: random.Random, tmp_path: Path, database: str
) -> None:
    # Over 5 s: each of the faults waits until the daemons have sold to a crowd for a while.
    figures = connection.break_connections(chance, FAULTS, tmp_path, database)
    assert figures["faults"] >= FAULTS


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_a_request_whose_commit_is_cut_gets_the_true_reply(
    side: Side, part: float, proxy: Proxy, tmp_path: Path, database: str
) -> None:
    write_events(tmp_path, 10)
    hows = cycle(HOWS)
    with Fleet(tmp_path, database) as fleet, fleet.start(url=proxy.url).connect() as client:

        def ask(line: str) -> dict[str, object]:
            proxy.inject([Fault(side, "commit", 0, part, next(hows))])
            reply = client.ask(line)
            assert "replayed" not in reply
            return reply

        booked = ask("book 1 2 --booking a")
        tickets = booked["tickets"]
        assert isinstance(tickets, list)
        assert ask(f"redeem {tickets[0]}")["state"] == "redeemed"
        assert ask(f"cancel a --tickets {tickets[1]}")["cancelled"] == [tickets[1]]
        assert ask("hold 1 3 --booking b")["state"] == "held"
        assert ask("release b")["state"] == "released"
        assert ask("hold 1 3 --booking c")["state"] == "held"
        assert ask("confirm c")["version"] == 6
        assert ask("amend 1 --capacity 20")["version"] == 7
        assert ask("create Another 2027-03-11T20:00:00Z 5 --id 2")["available"] == 5
        assert proxy.struck.qsize() == 9
        fleet.end()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("how", HOWS)
def test_a_sale_whose_commit_is_cut_is_made_exactly_once(
    side: Side, part: float, how: How, proxy: Proxy, tmp_path: Path, database: str
) -> None:
    write_events(tmp_path, 10)
    with Fleet(tmp_path, database) as fleet, fleet.start(url=proxy.url).connect() as client:
        client.ask("book 1 1")
        proxy.inject([Fault(side, "commit", 0, part, how)])
        booked = client.ask("book 1 2 --booking a")
        assert (booked["available"], booked["version"], "replayed" in booked) == (7, 2, False)
        assert proxy.struck.qsize() == 1
        assert client.ask("show a") == booked
        assert client.ask("book 1 2 --booking a") == booked | {"replayed": True}


@pytest.mark.parametrize("passed", range(0, 24, 3))
def test_breaks_while_settling_a_cut_sale_keep_its_reply_true(
    passed: int, proxy: Proxy, tmp_path: Path, database: str
) -> None:
    write_events(tmp_path, 10)
    with Fleet(tmp_path, database) as fleet, fleet.start(url=proxy.url).connect() as client:
        client.ask("book 1 1")
        breaks = [Fault("server", "message", passed, 0.0, how) for how in ("close", "reset", "close")]
        proxy.inject([Fault("server", "commit", 0, 0.0, "close"), *breaks])
        booked = client.ask("book 1 2 --booking a")
        assert (booked["available"], booked["version"], "replayed" in booked) == (7, 2, False)
        assert client.ask("book 1 2 --booking a") == booked | {"replayed": True}


@asynccontextmanager
async def selling(url: str) -> AsyncIterator[Committer]:
    """Sell in this process, where nothing follows what others sell."""
    ledger = await PostgresStorage(url).open()
    committer = Committer(ledger, Catalogue([]), Limits())
    running = asyncio.create_task(committer.run())
    try:
        yield committer
    finally:
        committer.close()
        await running
        await ledger.close()


@pytest.mark.parametrize("part", [0.0, 1.0])
@pytest.mark.parametrize("side", SIDES)
async def test_a_sold_out_answer_that_is_lost_is_not_taken_for_a_sale(
    side: Side, part: float, proxy: Proxy, database: str
) -> None:
    other = await asyncpg.connect(database)
    async with selling(proxy.url) as committer:
        await committer.ask([Create("Jazz", datetime(2027, 3, 11, tzinfo=UTC), 5, "1")], "test")
        await committer.ask([Book("1", 1)], "test")
        await other.execute("UPDATE ticketd.events SET available = 2, sold = 3, version = 2")
        proxy.inject([Fault(side, "commit", 0, part, "close")])
        refused, booked = await committer.ask([Book("1", 3, "a"), Book("1", 1, "b")], "test")
        assert proxy.struck.qsize() == 1
        assert isinstance(refused, ErrorReply)
        assert isinstance(booked, BookingReply)
        assert (refused.code, booked.available, booked.version, booked.replayed) == ("sold_out", 1, 3, False)
    await other.close()


async def test_a_database_error_while_settling_a_cut_sale_is_retried(proxy: Proxy, database: str) -> None:
    other = await asyncpg.connect(database)
    async with selling(proxy.url) as committer:
        await committer.ask([Create("Jazz", datetime(2027, 3, 11, tzinfo=UTC), 5, "1")], "test")
        await other.execute(
            "CREATE SEQUENCE tries; CREATE FUNCTION full() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN IF nextval('public.tries') <= 2 THEN RAISE 'full' USING ERRCODE = '53100'; END IF;"
            " RETURN NEW; END $$;"
            "CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON ticketd.commits FOR EACH ROW WHEN (NEW.fenced)"
            " EXECUTE FUNCTION public.full()"
        )
        proxy.inject([Fault("server", "commit", 0, 0.0, "close")])
        [booked] = await committer.ask([Book("1", 2, "a")], "test")
        assert isinstance(booked, BookingReply)
        assert (booked.available, booked.version, booked.replayed) == (3, 1, False)
        assert await other.fetchval("SELECT last_value FROM tries") > 2
    await other.close()


def test_a_frozen_connection_does_not_lock_events_for_long(proxy: Proxy, tmp_path: Path, database: str) -> None:
    write_events(tmp_path, *[10] * len(MESSAGES_PASSED))
    with Fleet(tmp_path, database) as fleet, ExitStack() as frozen:
        daemon, other = fleet.start(url=proxy.url), fleet.start()
        for event, passed in enumerate(MESSAGES_PASSED, 1):
            proxy.inject([Fault("client", "message", passed, 0.5 * (event % 2), "freeze")])
            frozen.enter_context(daemon.connect()).send(b"book %d 1\n" % event)
            proxy.struck.get(timeout=SECONDS_MAX)
        with other.connect() as client:
            for event in range(1, len(MESSAGES_PASSED) + 1):
                assert client.ask(f"book {event} 1")["reply"] == "booking"
        fleet.end()


async def test_a_connection_that_freezes_while_a_buyer_is_looked_up_is_given_up(database: str) -> None:
    async def see_it_given_up(passed: int) -> None:
        event = str(passed)
        with Proxy(database) as proxy:
            ledger = await PostgresStorage(proxy.url).open()
            # With a scan of what does not exist, the batch begins with a look at the database.
            requests = [Book(event, 1, f"a{passed}", "anna"), Redeem("nothing", scan="s")]
            jazz = Create("Jazz", datetime(2027, 3, 11, tzinfo=UTC), 9, event, per_buyer=5)
            await transact(ledger, [jazz, *requests])
            proxy.inject([Fault("server", "message", passed, 0, "freeze")])
            with pytest.raises(LedgerUnavailableError, match="does not answer in time"):
                async with asyncio.timeout(SECONDS_MAX / 4):
                    await transact(ledger, [Book(event, 9, f"b{passed}", "anna"), Redeem("nothing", scan="s")])
            await ledger.close()

    # All at once, because each waits for two seconds.
    await asyncio.gather(*map(see_it_given_up, range(2, 10, 2)))


def test_a_cut_commit_that_cannot_be_settled_is_outcome_unknown(proxy: Proxy, tmp_path: Path, database: str) -> None:
    write_events(tmp_path, 10)
    with Fleet(tmp_path, database) as fleet:
        daemon = fleet.start("--commit-seconds-max", "1", url=proxy.url)
        with daemon.connect() as client:
            proxy.inject([Fault("server", "commit", 0, 0, "close"), Fault("client", "byte", 0, 0, "part", 4)])
            assert client.ask("book 1 2 --booking a")["code"] == "outcome_unknown"
            until(lambda: client.ask("book 1 2 --booking a").get("replayed"))
            assert client.ask("show a")["version"] == 1
        fleet.end()
