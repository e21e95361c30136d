"""Two daemons have one waiting list in PostgreSQL: whoever frees tickets, the first in line gets them.

Each ledger here decides on what it saw last; nothing tells it that somebody waits at the other one.
"""

import asyncio

import asyncpg
import pytest

from tests.conftest import SECONDS_MAX
from tests.faketime import Clock
from tests.ledger.asking import in_short, outcome, serve_lines, told
from tests.ledger.passed_over import states
from tests.ledger.test_postgres_locks import until_somebody_waits_for_a_lock
from tests.ledgers import transact
from ticketd.ledger.base import Ledger
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.requests import Amend, Book, Cancel, Confirm, Create, Hold, Release, Wait

LATER = Clock().time.replace(year=2028)
WAIT = Wait("jazz", 2, 900, "first", "cyd")
FREED: dict[str, tuple[list[LedgerRequest], list[LedgerRequest], list[str]]] = {
    # What the other one does after somebody has joined its line, what this one does then, and what is said to that.
    "an own hold is released": ([], [Release("held")], ["released"]),
    "a sale is cancelled": ([], [Cancel("sold")], ["cancelled"]),
    "somebody else asks in the same commit": (
        [], [Release("held"), Book("jazz", 2, "b"), Hold("jazz", 1, 60, "h"), Wait("jazz", 1, 900, "second")],
        ["released", "sold_out", "sold_out", "waiting"],
    ),
    "the event gets larger": ([], [Amend("jazz", capacity=6)], ["event"]),
    "the sale goes on": (
        [Amend("jazz", paused=True), Cancel("sold")], [Amend("jazz", paused=False), Book("jazz", 1, "b")],
        ["event", "sold_out"],
    ),
    "the sale opens": (
        [Amend("jazz", opens=LATER), Cancel("sold")], [Amend("jazz", opens=None), Book("jazz", 1, "b")],
        ["event", "sold_out"],
    ),
    "the sale is not over": (
        [Amend("jazz", closes=Clock().time), Cancel("sold")], [Amend("jazz", closes=LATER), Book("jazz", 1, "b")],
        ["event", "sold_out"],
    ),
    "a larger party cannot be served": ([Wait("jazz", 4, 900, "large")], [Release("held")], ["released"]),
}  # fmt: skip


@pytest.mark.parametrize("what", FREED)
async def test_what_one_daemon_frees_goes_to_who_waits_at_the_other(
    what: str, database: str, sold_out: tuple[Ledger, Ledger]
) -> None:
    here, there = sold_out
    meanwhile, asked, replies = FREED[what]
    assert await outcome(there, WAIT) == ["waiting"]
    for request in meanwhile:
        await told(there, request)
    answers = await transact(here, asked)
    assert in_short(answers.replies) == replies
    assert [booking.id for booking in answers.offered] == ["first"]
    assert (await states(database))["first"] == "held"
    # It is confirmed wherever its buyer goes.
    assert await outcome(there, Confirm("first")) == ["confirmed"]


async def test_a_hold_that_runs_out_goes_to_who_waits_at_the_other(
    database: str, clock: Clock, sold_out: tuple[Ledger, Ledger]
) -> None:
    here, there = sold_out
    await told(there, WAIT)
    clock.move(61)
    answers = await transact(here, [])
    assert (answers.expired, [booking.id for booking in answers.offered]) == ({"jazz": 2}, ["first"])
    assert (await states(database))["first"] == "held"


@pytest.mark.parametrize("asked", [Book("jazz", 1, "b"), Confirm("held", late=True), Hold("jazz", 2, 60, "h")])
async def test_nobody_takes_a_hold_that_has_run_out_before_who_waits(
    asked: LedgerRequest, database: str, clock: Clock, sold_out: tuple[Ledger, Ledger]
) -> None:
    here, there = sold_out
    await told(there, WAIT)
    clock.move(61)
    assert await outcome(here, asked) in (["sold_out"], ["hold_expired"])
    assert (await states(database))["first"] == "held"


async def test_what_is_too_few_for_the_line_is_sold_to_the_public(sold_out: tuple[Ledger, Ledger]) -> None:
    here, there = sold_out
    await told(there, Wait("jazz", 3, 900, "large"))
    assert await outcome(here, Release("held"), Book("jazz", 1, "b"), Confirm("held")) == [
        "released", "confirmed", "already_released",
    ]  # fmt: skip
    # From what both know, and have to look up.
    assert await outcome(there, Hold("jazz", 1, 60, "h"), Book("jazz", 1, "c")) == ["held", "sold_out"]
    assert await outcome(here, Release("h"), Cancel("sold")) == ["released", "cancelled"]


async def test_who_leaves_at_one_daemon_is_not_served_at_the_other(
    database: str, sold_out: tuple[Ledger, Ledger]
) -> None:
    here, there = sold_out
    await told(there, WAIT, Wait("jazz", 2, 900, "second"))
    assert await outcome(here, Release("first"), Release("held"), Release("first")) == ["released"] * 3
    assert (await states(database))["second"] == "held"
    assert await outcome(there, Release("first"), Confirm("second")) == ["released", "confirmed"]


async def test_an_event_may_be_made_and_waited_for_in_one_commit(
    database: str, sold_out: tuple[Ledger, Ledger]
) -> None:
    here, there = sold_out
    assert await outcome(
        here, Create("Rock", LATER, 2, "rock"), Wait("rock", 2, 900, "a"), Wait("rock", 1, 900, "b"), Release("a")
    ) == ["event", "held", "waiting", "released"]
    assert await outcome(there, Confirm("b"), Book("rock", 1, "c")) == ["confirmed", "confirmed"]


# At the same moment


@pytest.mark.parametrize("wait_first", [True, False])
@pytest.mark.parametrize("freed", [Release("held"), Cancel("sold"), Amend("jazz", capacity=7)])
async def test_who_joins_just_when_tickets_are_freed_gets_them(
    freed: LedgerRequest, wait_first: bool, database: str, sold_out: tuple[Ledger, Ledger]
) -> None:
    here, there = sold_out
    await there.events()
    turns: list[tuple[Ledger, LedgerRequest]] = [(there, WAIT), (here, freed)]
    first, second = turns if wait_first else turns[::-1]
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("SELECT FROM ticketd.events FOR UPDATE")
        # Both decide on what was there before either was done.
        asked = [asyncio.create_task(transact(first[0], [first[1]]))]
        await until_somebody_waits_for_a_lock(other)
        asked.append(asyncio.create_task(transact(second[0], [second[1]])))
        await until_waiting(other, 2)
    answers = await asyncio.gather(*asked)
    assert [booking.id for answer in answers for booking in answer.offered] == ["first"]
    assert (await states(database))["first"] == "held"
    await other.close()


# Somebody who waits for all tickets leaves, and somebody joins who waits for two.
SWAP = """
UPDATE ticketd.bookings SET state = 'released', changes = '[["leave", 0, 4, 1]]' WHERE id = 'large';
INSERT INTO ticketd.bookings (id, event, quantity, state, tickets, available, version, booked_at, seconds)
VALUES ('first', 'jazz', 2, 'waiting', '[]', 0, 5, 1, 900);
UPDATE ticketd.events SET version = 5
"""


async def test_a_line_that_changes_before_the_lock_is_read_again(
    database: str, sold_out: tuple[Ledger, Ledger]
) -> None:
    here, there = sold_out
    await told(there, Wait("jazz", 4, 900, "large"))
    await here.events()
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("SELECT FROM ticketd.events FOR UPDATE")
        freeing = asyncio.create_task(transact(here, [Release("held")]))
        await until_somebody_waits_for_a_lock(other)
        await other.execute(SWAP)
    assert [booking.id for booking in (await freeing).offered] == ["first"]
    await other.close()


async def until_waiting(other: asyncpg.Connection, sessions: int) -> None:
    """Return when so many sessions wait for locks."""
    async with asyncio.timeout(SECONDS_MAX):
        while await other.fetchval("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted") < sessions:
            pass


# Limits


async def test_tickets_that_are_waited_for_count_at_both_daemons(sold_out: tuple[Ledger, Ledger]) -> None:
    here, there = sold_out
    await told(here, Amend("jazz", per_buyer=3, capacity=8))
    assert await outcome(here, Book("jazz", 3, "a", "dan"), Wait("jazz", 2, 900, "w", "eve")) == [
        "confirmed",
        "waiting",
    ]
    await there.events()
    assert await outcome(there, Book("jazz", 1, "b", "dan"), Book("jazz", 1, "c", "eve")) == [
        "buyer_limit",
        "confirmed",
    ]
    assert await outcome(there, Wait("jazz", 1, 900, "x", "eve")) == ["buyer_limit"]
    assert await outcome(here, Release("w"), Wait("jazz", 2, 900, "y", "eve")) == ["released", "waiting"]


async def test_a_limit_counts_who_joins_at_both_daemons_at_once(database: str, sold_out: tuple[Ledger, Ledger]) -> None:
    here, there = sold_out
    await told(here, Amend("jazz", per_buyer=3))
    await there.events()
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("SELECT FROM ticketd.events FOR UPDATE")
        asked = [
            asyncio.create_task(outcome(ledger, Wait("jazz", 2, 900, id, "eve")))
            for ledger, id in ((here, "w"), (there, "x"))
        ]
        await until_waiting(other, 2)
    assert sorted([code for codes in await asyncio.gather(*asked) for code in codes]) == ["buyer_limit", "waiting"]
    await other.close()


async def test_whom_a_lower_limit_excludes_leaves_at_the_turn(database: str, sold_out: tuple[Ledger, Ledger]) -> None:
    here, there = sold_out
    await told(
        there,
        Wait("jazz", 2, 900, "nobody"),
        Wait("jazz", 2, 900, "cyd", "cyd"),
        Wait("jazz", 1, 900, "bob", "bob"),
        Wait("jazz", 1, 900, "dan", "dan"),
        Wait("jazz", 1, 900, "eve", "eve"),
    )
    # It knows nobody of the line, nor what anybody has.
    await told(here, Amend("jazz", per_buyer=1), Cancel("sold"))
    await serve_lines(here)
    found = await states(database)
    assert {id: found[id] for id in ("nobody", "cyd", "bob", "dan", "eve")} == {
        "nobody": "released", "cyd": "released", "bob": "released", "dan": "held", "eve": "held",
    }  # fmt: skip
    assert await outcome(there, Release("held"), Wait("jazz", 1, 900, "f", "bob")) == ["released", "held"]
