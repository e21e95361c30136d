"""Two daemons sell from one PostgreSQL: limits, pauses, windows and deletions hold for both at the same moment.

Each ledger here decides on what it saw last; nothing tells it what the other one does.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import asyncpg
import pytest

from tests.faketime import Clock
from tests.ledger.asking import outcome, told
from tests.ledger.facts import Row, on_the_wire
from tests.ledger.test_postgres_locks import until_somebody_waits_for_a_lock
from tests.ledgers import PostgresStorage, read, transact
from tests.postgres import query
from ticketd.ledger.base import Ledger
from ticketd.model import Event, milliseconds
from ticketd.rules.working_set import Adopt, LedgerRequest
from ticketd.wire.requests import (
    Amend,
    Book,
    Bookings,
    Cancel,
    Confirm,
    Create,
    Delete,
    Extend,
    Hold,
    Redeem,
    Release,
)

DATE = Clock().time
JAZZ = Create("Jazz", DATE, 1_000, "jazz")
LIMITED = Create("Jazz", DATE, 1_000, "jazz", per_buyer=5)
OWNED = """
SELECT coalesce(sum(quantity), 0) FROM ticketd.bookings
WHERE buyer = 'anna' AND state IN ('held', 'confirmed')
"""

REMOVED = "SELECT event FROM ticketd.removals"


@pytest.fixture
async def pair(database: str) -> AsyncIterator[tuple[Ledger, Ledger]]:
    async with AsyncExitStack() as stack:
        ledgers = [await PostgresStorage(database).open() for _ in range(2)]
        for ledger in ledgers:
            stack.push_async_callback(ledger.close)
            # As a daemon does at its start: so it knows the time, and need not ask before it decides.
            await ledger.events()
        yield ledgers[0], ledgers[1]


async def test_a_buyer_gets_no_more_from_two_daemons_at_once(database: str, pair: tuple[Ledger, Ledger]) -> None:
    here, there = pair
    await told(here, LIMITED)
    sold = 0
    for turn in range(10):
        requests = [
            [Book("jazz", 1, f"{who}{turn}a", "anna"), Hold("jazz", 2, 600, f"{who}{turn}b", "anna")] for who in "ht"
        ]
        replies = await asyncio.gather(outcome(here, *requests[0]), outcome(there, *requests[1]))
        sold += sum(code in ("confirmed", "held") for codes in replies for code in codes)
        [[owned]] = await asyncio.to_thread(query, database, OWNED)
        assert owned <= 5
    assert sold >= 2
    # Once there is room again, it is sold to the last ticket.
    assert owned == 5 or await outcome(here, Book("jazz", 5 - owned, "rest", "anna")) == ["confirmed"]
    assert await outcome(there, Book("jazz", 1, "more", "anna")) == ["buyer_limit"]


async def test_a_limit_counts_what_the_other_sells_before_the_lock(database: str, pair: tuple[Ledger, Ledger]) -> None:
    here, there = pair
    await told(here, LIMITED, Hold("jazz", 1, 60, "held", "anna"))
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("SELECT FROM ticketd.events FOR UPDATE")
        # Both have decided on what was there before.
        asked = [
            asyncio.create_task(outcome(here, Book("jazz", 3, "here", "anna"))),
            asyncio.create_task(outcome(there, Book("jazz", 3, "there", "anna"))),
        ]
        await until_somebody_waits_for_a_lock(other)
    codes = [await each for each in asked]
    assert sorted(codes) == [["buyer_limit"], ["confirmed"]]
    await other.close()


RELEASE = """
UPDATE ticketd.bookings SET state = 'released', changes = '[["release", 999, 3, 1, [], null, null]]' WHERE id = 'held';
UPDATE ticketd.events SET held = 0, available = available + 1, version = version + 1
"""


@pytest.mark.parametrize(
    ("meanwhile", "asked", "answer"),
    [
        (RELEASE, Extend("held", 1), "already_released"),
        (RELEASE, Confirm("sold"), "booking_not_found"),
        ("UPDATE ticketd.bookings SET id = 'new' WHERE id = 'held'", Confirm("new"), "confirmed"),
    ],
)
async def test_what_one_tells_after_a_change_is_not_from_before_it(
    database: str, pair: tuple[Ledger, Ledger], meanwhile: str, asked: LedgerRequest, answer: str
) -> None:
    here, _ = pair
    await told(here, JAZZ, Hold("jazz", 1, 600, "held"), Book("jazz", 1, "b"))
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("SELECT FROM ticketd.events FOR UPDATE")
        both = asyncio.create_task(outcome(here, Cancel("b"), asked))
        # It has decided on what was there before.
        await until_somebody_waits_for_a_lock(other)
        await other.execute(meanwhile)
    assert await both == ["cancelled", answer]
    await other.close()


async def test_a_late_confirmation_counts_what_the_other_sold(database: str, pair: tuple[Ledger, Ledger]) -> None:
    here, there = pair
    await told(here, LIMITED, Hold("jazz", 3, 60, "late", "anna"))
    await asyncio.to_thread(query, database, "UPDATE ticketd.bookings SET expires = 1, booked_at = 1 - 60000")
    assert await outcome(there, Book("jazz", 4, "there", "anna")) == ["confirmed"]
    assert await outcome(here, Confirm("late", late=True)) == ["buyer_limit"]
    assert await outcome(there, Cancel("there")) == ["cancelled"]
    assert await outcome(here, Confirm("late", late=True), Confirm("late")) == ["confirmed", "confirmed"]


async def test_a_lower_limit_of_the_other_stops_a_late_confirmation(database: str, pair: tuple[Ledger, Ledger]) -> None:
    here, there = pair
    await told(here, JAZZ, Hold("jazz", 3, 60, "late", "anna"))
    await asyncio.to_thread(query, database, "UPDATE ticketd.bookings SET expires = 1, booked_at = 1 - 60000")
    assert await outcome(here, Confirm("late")) == ["hold_expired"]
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("SELECT FROM ticketd.events FOR UPDATE")
        asked = asyncio.create_task(outcome(there, Confirm("late", late=True)))
        await until_somebody_waits_for_a_lock(other)
        await other.execute("UPDATE ticketd.events SET per_buyer = 2, version = version + 1, amendments = 1")
    assert await asked == ["buyer_limit"]
    await other.close()


@pytest.mark.parametrize(
    ("amended", "expected"),
    [
        (Amend("jazz", paused=True), "not_on_sale"),
        (Amend("jazz", closes=DATE), "not_on_sale"),
        (Amend("jazz", opens=DATE.replace(year=2990)), "not_on_sale"),
        (Amend("jazz", capacity=1), "sold_out"),
        (Amend("jazz", per_buyer=1), "buyer_limit"),
    ],
    ids=["paused", "closes", "opens", "capacity", "per_buyer"],
)
async def test_what_one_daemon_amends_stops_the_other_at_once(
    pair: tuple[Ledger, Ledger], amended: Amend, expected: str
) -> None:
    here, there = pair
    if amended.closes == DATE:
        amended = Amend("jazz", closes=DATE.replace(year=2000))
    await told(there, JAZZ, Hold("jazz", 1, 60, "held", "ben"))
    await here.events()
    assert await outcome(here, amended) == ["event"]
    # It still thinks that everything is on sale.
    booked = await outcome(there, Book("jazz", 2, "b", "anna"), Hold("jazz", 2, 60, "h", "anna"))
    assert booked == [expected] * 2
    # What is held goes on.
    assert await outcome(there, Extend("held", 90), Confirm("held")) == ["held", "confirmed"]


async def test_a_new_limit_of_the_other_asks_for_a_buyer_at_once(pair: tuple[Ledger, Ledger]) -> None:
    here, there = pair
    await told(there, JAZZ)
    assert await outcome(here, Amend("jazz", per_buyer=1)) == ["event"]
    assert await outcome(there, Book("jazz", 1, "b")) == ["bad_request"]


async def test_an_amendment_before_the_lock_stops_the_other(database: str, pair: tuple[Ledger, Ledger]) -> None:
    here, _ = pair
    await told(here, JAZZ)
    other = await asyncpg.connect(database)
    pause = "UPDATE ticketd.events SET paused = true, version = version + 1, amendments = 1"
    # The first time it decides on what it knows, the second time on what it has loaded.
    for requests in ([Book("jazz", 1, "a")], [Book("jazz", 1, "b"), Redeem("c", scan="s")]):
        async with other.transaction():
            await other.execute("SELECT FROM ticketd.events FOR UPDATE")
            asked = asyncio.create_task(outcome(here, *requests))
            await until_somebody_waits_for_a_lock(other)
            await other.execute(pause)
        assert (await asked)[0] == "not_on_sale"
        await other.execute("UPDATE ticketd.events SET paused = false, amendments = 0, version = 0")
        await here.events()
    await other.close()


async def test_a_sale_opens_and_closes_by_the_clock_of_the_database(database: str) -> None:
    clock, wrong = Clock(), Clock()
    opens = clock.time + timedelta(seconds=10)
    ledger = await PostgresStorage(database, clock, estimate=wrong).open()
    await told(ledger, Create("Jazz", DATE, 10, "jazz", opens=opens, closes=opens + timedelta(seconds=10)))
    # Each time, what the daemon thinks is up to 0.9 s off, which is not yet too much for a batch.
    steps = ((9.999, "not_on_sale"), (10, "confirmed"), (19.999, "confirmed"), (20, "not_on_sale"))
    for step, (seconds, expected) in enumerate(steps):
        for off in (-0.9, 0.9):
            clock.time = DATE + timedelta(seconds=seconds)
            wrong.time = clock.time + timedelta(seconds=off)
            assert await outcome(ledger, Book("jazz", 1, f"b{step}{off}")) == [expected], (seconds, off)
    await ledger.close()


async def test_no_booking_is_dated_before_its_sale(database: str) -> None:
    clock, wrong = Clock(), Clock()
    ledger = await PostgresStorage(database, clock, estimate=wrong).open()
    await told(ledger, Create("Jazz", DATE, 10, "jazz"))
    opens = clock.time + timedelta(seconds=10)
    other = await asyncpg.connect(database)
    # Another daemon decides when the sale opens.
    await other.execute("UPDATE ticketd.events SET opens = $1", milliseconds(opens))
    clock.time, wrong.time = opens, opens - timedelta(seconds=0.9)
    [booked] = (await transact(ledger, [Book("jazz", 1, "a")])).replies
    assert on_the_wire(booked)["booked_at"] >= opens
    await other.close()
    await ledger.close()


# Deletions


async def test_of_a_deletion_and_a_booking_at_once_one_wins(database: str, pair: tuple[Ledger, Ledger]) -> None:
    here, there = pair
    wins = set()
    other = await asyncpg.connect(database)
    for turn in range(12):
        event = f"e{turn}"
        await told(here, Create("Jazz", DATE, 10, event))
        await there.events()
        first, second = ((here, there), (there, here))[turn % 2]
        async with other.transaction():
            await other.execute("SELECT FROM ticketd.events FOR UPDATE")
            booked = asyncio.create_task(outcome(first, Book(event, 1, f"b{turn}")))
            await until_somebody_waits_for_a_lock(other)
            deleted = asyncio.create_task(outcome(second, Delete(event)))
        codes = (*(await booked), *(await deleted))
        assert codes in {("confirmed", "event_in_use"), ("event_not_found", "event")}
        wins.add(codes)
        assert (event in {each.id for each in await here.events()}) == (codes[0] == "confirmed")
    assert ("confirmed", "event_in_use") in wins
    await other.close()


async def test_an_event_that_the_other_deletes_is_not_sold(pair: tuple[Ledger, Ledger]) -> None:
    here, there = pair
    await told(there, JAZZ)
    assert await outcome(here, Delete("jazz"), Delete("jazz")) == ["event", "event_not_found"]
    assert await outcome(there, Book("jazz", 1, "b"), Amend("jazz", capacity=5)) == ["event_not_found"] * 2


async def test_an_event_deleted_and_made_again_is_the_new_one(pair: tuple[Ledger, Ledger]) -> None:
    here, there = pair
    await told(there, JAZZ, *(Amend("jazz", capacity=capacity) for capacity in (50, 60, 70)))
    again = Create("Again", DATE, 3, "jazz", per_buyer=2)
    assert await outcome(here, Delete("jazz"), again) == ["event", "event"]
    # It still has the old one in mind, of which 70 were left.
    [first, second] = await told(there, Book("jazz", 2, "a", "anna"), Book("jazz", 1, "b", "ben"))
    assert [(reply["available"], reply["version"]) for reply in (first, second)] == [(1, 1), (0, 2)]
    assert await outcome(there, Book("jazz", 1, "c", "anna"), Delete("jazz"), again) == [
        "sold_out", "event_in_use", "event",
    ]  # fmt: skip


async def test_what_the_other_creates_is_not_taken_for_what_was_made_and_deleted_here(
    database: str, pair: tuple[Ledger, Ledger]
) -> None:
    here, there = pair
    await told(here, JAZZ, Hold("jazz", 1, 60, "held"))
    other = await asyncpg.connect(database)
    rock = Create("Rock", DATE, 7, "rock")
    async with other.transaction():
        await other.execute("SELECT FROM ticketd.events FOR UPDATE")
        asked = asyncio.create_task(outcome(here, Confirm("held"), rock, Book("rock", 9), Delete("rock")))
        await until_somebody_waits_for_a_lock(other)
        assert await outcome(there, rock, Book("rock", 1, "sold")) == ["event", "confirmed"]
    assert await asked == ["confirmed", "event", "sold_out", "event_in_use"]
    assert [removal for [removal] in await asyncio.to_thread(query, database, REMOVED)] == []
    await other.close()


async def test_no_daemon_takes_a_deleted_event_from_its_file(pair: tuple[Ledger, Ledger], database: str) -> None:
    here, there = pair
    from_file = Adopt(Event("jazz", "Jazz", DATE, 10, 10, 0, 0, 0, 0))
    await told(here, from_file)
    await told(there, from_file)
    assert await outcome(here, Delete("jazz")) == ["event"]
    for ledger in (there, here, await PostgresStorage(database).open()):
        await told(ledger, from_file)
        assert await ledger.events() == []
    await ledger.close()
    assert await outcome(there, JAZZ, from_file, Book("jazz", 1, "b")) == ["event", "event", "confirmed"]


# Bookings that both know


async def test_a_hold_that_the_other_extended_is_extended_and_confirmed(pair: tuple[Ledger, Ledger]) -> None:
    here, there = pair
    await told(here, JAZZ, Hold("jazz", 1, 60, "h"))
    for ledger, seconds in ((there, 100), (here, 200), (there, 300)):
        assert "replayed" not in (await told(ledger, Extend("h", seconds)))[0]
    # It ended at another time than this daemon remembers.
    [again] = await told(here, Extend("h", 250))
    assert again["replayed"]
    await told(here, Confirm("h"))
    shown = await only_booking(there)
    assert [change["what"] for change in shown["changes"]] == ["extend", "extend", "extend", "confirm"]
    assert [change["version"] for change in shown["changes"]] == [2, 3, 4, 5]


async def only_booking(ledger: Ledger) -> Row:
    """Return the only booking there is."""
    [page] = await read(ledger, [Bookings()])
    row: Row = on_the_wire(page)["bookings"][0]
    return row


async def test_a_release_by_the_other_makes_room_for_the_buyer(pair: tuple[Ledger, Ledger]) -> None:
    here, there = pair
    await told(here, LIMITED, Hold("jazz", 5, 60, "h", "anna"))
    assert await outcome(there, Book("jazz", 1, "b", "anna")) == ["buyer_limit"]
    assert await outcome(there, Release("h"), Book("jazz", 5, "c", "anna")) == ["released", "confirmed"]
    assert await outcome(here, Book("jazz", 1, "d", "anna")) == ["buyer_limit"]
