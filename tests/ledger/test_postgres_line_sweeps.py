"""Who waits in line is offered tickets although nobody asks for anything: by the clock, and batch by batch.

Each ledger here decides on what it saw last.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

from tests.conftest import SECONDS_MAX
from tests.faketime import Clock
from tests.ledger.asking import BATCHES_MAX, outcome, serve_lines, told
from tests.ledger.passed_over import passed_over, states
from tests.ledger.test_postgres_line_told import SLOW_LOAD
from tests.ledger.test_postgres_locks import selling, until_somebody_waits_for_a_lock
from tests.ledgers import PostgresStorage, transact
from tests.postgres import query
from ticketd.ledger.base import SharedLedger
from ticketd.model import milliseconds
from ticketd.rules.waiting_list import OFFERED_PER_BATCH_MAX
from ticketd.wire.replies import BookingReply, ErrorReply, EventReply
from ticketd.wire.requests import Amend, Book, Cancel, Create, Hold, Release, Wait

DATE = Clock().time
OPENS = DATE + timedelta(seconds=10)
JAZZ = Create("Jazz", DATE, 2, "jazz")
WAITING = "SELECT waiting FROM ticketd.events WHERE id = $1"
OFFERED = "SELECT count(*) FROM ticketd.bookings WHERE state = 'held'"


@asynccontextmanager
async def opened(database: str, clock: Clock) -> AsyncIterator[SharedLedger]:
    """A ledger that has an event of 2 tickets, sold, and somebody who waits for 2."""
    ledger = await PostgresStorage(database, clock).open()
    assert isinstance(ledger, SharedLedger)
    await told(ledger, JAZZ, Book("jazz", 2, "sold"), Wait("jazz", 2, 900, "first"))
    try:
        yield ledger
        await serve_lines(ledger)
        assert await passed_over(database, clock()) == []
    finally:
        await ledger.close()


# By the clock


@pytest.mark.parametrize("looks", [True, False])
async def test_a_sale_that_opens_is_offered_to_the_line_by_itself(looks: bool, database: str, clock: Clock) -> None:
    async with opened(database, clock) as ledger:
        await told(ledger, Amend("jazz", opens=OPENS))
        assert await outcome(ledger, Cancel("sold"), Book("jazz", 1, "early")) == ["cancelled", "not_on_sale"]
        # A daemon hears of it when it looks for changes, or ends due holds.
        await (ledger.fetch_changes() if looks else transact(ledger, []))
        assert ledger.next_expiry == milliseconds(OPENS)
        clock.time = OPENS - timedelta(milliseconds=1)
        assert not (await transact(ledger, [])).changed
        clock.time = OPENS
        answers = await transact(ledger, [])
        assert [booking.id for booking in answers.offered] == ["first"]
        # It runs out when it was offered for so long.
        assert ledger.next_expiry == milliseconds(OPENS) + 900_000


async def test_who_waits_comes_before_the_first_buyer_of_a_sale_that_opens(database: str, clock: Clock) -> None:
    async with opened(database, clock) as ledger:
        await told(ledger, Amend("jazz", opens=OPENS), Cancel("sold"))
        clock.time = OPENS
        assert await outcome(ledger, Book("jazz", 1, "b")) == ["sold_out"]
        assert (await states(database))["first"] == "held"


async def test_an_offer_that_runs_out_goes_to_the_next_in_line(database: str, clock: Clock) -> None:
    async with opened(database, clock) as ledger:
        await told(ledger, *(Wait("jazz", 1, 900, f"w{number}") for number in range(3)))
        await told(ledger, Cancel("sold"))
        clock.move(900)
        answers = await transact(ledger, [])
        assert (answers.expired, [booking.id for booking in answers.offered]) == ({"jazz": 2}, ["w0", "w1"])
        assert {booking.id: booking.expires for booking in answers.offered} == dict.fromkeys(
            ["w0", "w1"], clock() + 900_000
        )


@pytest.mark.parametrize(
    "amended",
    [Amend("jazz", paused=True), Amend("jazz", closes=DATE), Amend("jazz", opens=OPENS, closes=OPENS.replace(hour=1))],
    ids=["paused", "closed", "not open"],
)
async def test_an_event_off_sale_is_offered_to_nobody(amended: Amend, database: str, clock: Clock) -> None:
    async with opened(database, clock) as ledger:
        await told(ledger, amended, Cancel("sold"))
        await ledger.fetch_changes()
        assert ledger.next_expiry in (None, milliseconds(OPENS))
        assert not (await transact(ledger, [])).changed
        assert ledger.next_expiry in (None, milliseconds(OPENS))


async def test_what_is_too_few_for_everybody_keeps_no_daemon_busy(database: str, clock: Clock) -> None:
    async with opened(database, clock) as ledger:
        assert await outcome(ledger, Amend("jazz", capacity=3)) == ["event"]
        for _ in range(2):
            assert not (await transact(ledger, [])).changed
            assert ledger.next_expiry is None
            await ledger.fetch_changes()
            assert ledger.next_expiry is None


async def test_an_event_that_somebody_has_locked_delays_no_other_line(database: str, clock: Clock) -> None:
    async with opened(database, clock) as ledger:
        await told(ledger, Create("Rock", DATE, 1, "rock"), Book("rock", 1, "b"), Wait("rock", 1, 900, "second"))
        other = await asyncpg.connect(database)
        await other.execute("UPDATE ticketd.events SET capacity = capacity + 2, available = 2, version = version + 1")
        async with other.transaction():
            await other.execute("SELECT FROM ticketd.events WHERE id = 'jazz' FOR UPDATE")
            assert [booking.id for booking in (await transact(ledger, [])).offered] == ["second"]
            assert not (await transact(ledger, [])).changed
        await other.close()
        await ledger.fetch_changes()
        assert ledger.next_expiry is not None and ledger.next_expiry <= clock()
        assert [booking.id for booking in (await transact(ledger, [])).offered] == ["first"]


async def test_an_event_that_changes_meanwhile_delays_no_other_line(database: str, clock: Clock) -> None:
    async with opened(database, clock) as ledger:
        for event in ("rock", "pop"):
            made = Create("Some", DATE, 1, event)
            await told(ledger, made, Hold(event, 1, 60, f"{event}-held"), Wait(event, 1, 900, f"{event}-next"))
        clock.move(60)
        other = await asyncpg.connect(database)
        await other.execute(SLOW_LOAD)
        sweeping = asyncio.create_task(transact(ledger, []))
        await until_somebody_waits_for_a_lock(other)
        await other.execute("UPDATE ticketd.events SET version = version + 1, amendments = 1 WHERE id = 'pop'")
        await other.execute("SELECT pg_advisory_unlock(7)")
        assert [booking.id for booking in (await sweeping).offered] == ["rock-next"]
        assert [booking.id for booking in (await transact(ledger, [])).offered] == ["pop-next"]
        await other.close()


# Batch by batch


async def make_line(ledger: SharedLedger, event: str, length: int) -> None:
    """Make an event of one ticket, which is sold, and a line of so many who wait for one."""
    await told(ledger, Create("Long", DATE, 1, event), Book(event, 1, f"{event}-sold"))
    for start in range(0, length, 1_000):
        ids = range(start, min(start + 1_000, length))
        await told(ledger, *(Wait(event, 1, 900, f"{event}-{number:04}") for number in ids))


async def test_a_long_line_is_served_to_its_end_without_a_request(database: str) -> None:
    more = 2 * OFFERED_PER_BATCH_MAX + 500
    async with selling(database) as (committer, ledger):
        await make_line(ledger, "long", more + 100)
        event, busy, busy_too, joined = await committer.ask(
            [Amend("long", capacity=more + 1), Book("long", 1), Hold("long", 1, 60), Wait("long", 1, 900, "late")],
            "test",
        )
        assert isinstance(event, EventReply)
        assert isinstance(joined, BookingReply)
        assert (joined.state, joined.position) == ("waiting", more + 101 - OFFERED_PER_BATCH_MAX)
        for refused in (busy, busy_too):
            assert isinstance(refused, ErrorReply)
            assert (refused.code, refused.retry_after) == ("busy", 0.1)
        async with asyncio.timeout(SECONDS_MAX):
            while (await asyncio.to_thread(query, database, WAITING, "long"))[0][0] > 101:
                pass
        # Nothing is left to do, and nothing is done.
        assert not committer.expiry.is_due()
        assert committer.activity.counts.commits == 3
        [refused] = await committer.ask([Book("long", 1)], "test")
        assert isinstance(refused, ErrorReply)
        assert refused.code == "sold_out"
    waiting = "SELECT id FROM ticketd.bookings WHERE state = 'waiting' ORDER BY version"
    left = [id for [id] in await asyncio.to_thread(query, database, waiting)]
    assert left == [*(f"long-{number:04}" for number in range(more, more + 100)), "late"]


async def test_another_daemon_goes_on_with_a_line_if_one_dies(database: str, clock: Clock) -> None:
    more = OFFERED_PER_BATCH_MAX + 7
    async with opened(database, clock) as here, opened(database, clock) as there:
        await make_line(here, "long", 3 * more)
        await told(here, Amend("long", capacity=more + 1))
        assert here.next_expiry == 0
        assert await outcome(there, Book("long", 1)) == ["sold_out"]
        [[offered]] = await asyncio.to_thread(query, database, OFFERED)
        assert offered == more
        await told(here, Amend("long", capacity=2 * more + 1))
        await there.fetch_changes()
        assert there.next_expiry == 0


async def test_a_commit_meanwhile_does_not_stop_a_line_that_is_served(database: str, clock: Clock) -> None:
    async with opened(database, clock) as ledger:
        await make_line(ledger, "long", OFFERED_PER_BATCH_MAX + 1)
        await told(ledger, Create("Rock", DATE, 1, "rock"))
        other = await asyncpg.connect(database)
        async with other.transaction():
            await other.execute("SELECT FROM ticketd.events WHERE id = 'rock' FOR UPDATE")
            held = asyncio.create_task(outcome(ledger, Hold("rock", 1, 60, "h")))
            await until_somebody_waits_for_a_lock(other)
            await told(ledger, Amend("long", capacity=OFFERED_PER_BATCH_MAX + 2))
            assert ledger.next_expiry == 0
        assert await held == ["held"]
        assert ledger.next_expiry == 0
        await other.close()


async def test_many_lines_at_once_are_served_in_commits_of_bounded_size(database: str, clock: Clock) -> None:
    events = [f"e{number}" for number in range(120)]
    async with opened(database, clock) as ledger:
        await told(ledger, *(Create("Some", DATE, 20, event) for event in events))
        await told(ledger, *(Hold(event, 20, 60, f"{event}-held") for event in events))
        await told(ledger, *(Wait(event, 2, 900, f"{event}-{number}") for event in events for number in range(10)))
        clock.move(60)
        batches = [await transact(ledger, []) for _ in range(BATCHES_MAX)]
        offered = [sum(booking.quantity for booking in answers.offered) for answers in batches]
        assert max(offered) <= OFFERED_PER_BATCH_MAX
        assert (sum(offered), offered[-1]) == (len(events) * 20, 0)
        assert not batches[-1].changed


async def test_those_who_leave_make_no_room_for_the_public(database: str, clock: Clock) -> None:
    """All whom a batch has read leave, so it knows nobody who waits; and yet somebody does."""
    async with opened(database, clock) as ledger:
        await make_line(ledger, "long", OFFERED_PER_BATCH_MAX + 50)
        leaving = [Release(f"long-{number:04}") for number in range(OFFERED_PER_BATCH_MAX + 20)]
        codes = await outcome(ledger, *leaving, Cancel("long-sold"), Book("long", 1, "b"))
        assert codes[-1] in ("busy", "sold_out")
        await serve_lines(ledger)
        assert (await states(database))["long-1020"] == "held"
