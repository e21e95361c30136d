"""What is told of a waiting list in PostgreSQL: places, and replies that were lost or are read while it changes."""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from tests.conftest import SECONDS_MAX
from tests.faketime import Clock
from tests.faults.proxy import Fault, Proxy
from tests.ledger.asking import in_short, outcome, told
from tests.ledger.facts import on_the_wire
from tests.ledger.passed_over import states
from tests.ledger.test_postgres_line import LATER, SWAP, WAIT
from tests.ledger.test_postgres_locks import until_somebody_waits_for_a_lock
from tests.ledgers import PostgresStorage, read, result_of, transact
from ticketd.ledger.base import Answers, Ledger
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import ErrorReply
from ticketd.wire.requests import Book, Bookings, Cancel, Confirm, Create, Release, Show, Wait

# Places


async def position(ledger: Ledger, booking: str) -> int | None:
    [reply] = await read(ledger, [Show(booking)])
    place: int | None = on_the_wire(reply).get("position")
    return place


async def test_a_line_is_served_in_the_order_of_both_daemons(database: str, sold_out: tuple[Ledger, Ledger]) -> None:
    here, there = sold_out
    for number, ledger in enumerate((there, here, here, there, here)):
        assert await outcome(ledger, Wait("jazz", 1, 900, f"w{number}")) == ["waiting"]
        assert await position(there, f"w{number}") == number + 1
    for ledger, freed, served in ((here, Release("held"), "w0 w1"), (there, Cancel("sold"), "w2 w3")):
        answers = await transact(ledger, [freed])
        assert [booking.id for booking in answers.offered] == served.split()
    assert await position(here, "w4") == 1


async def test_places_in_several_lines_are_shown_together(sold_out: tuple[Ledger, Ledger]) -> None:
    here, there = sold_out
    for event in ("rock", "pop"):
        await told(there, Create("Rock", LATER, 1, event), Book(event, 1, f"{event}-sold"))
        await told(there, *(Wait(event, 1, 900, f"{event}{number}") for number in range(3)))
    await told(there, Release("rock1"))
    asked = ["pop2", "rock2", "rock0", "pop0"]
    shown = [on_the_wire(reply) for reply in await read(here, [Show(id) for id in asked])]
    assert [reply.get("position") for reply in shown] == [3, 2, 1, 1]
    [page] = await read(here, [Bookings()])
    positions = {row["id"]: row.get("position") for row in on_the_wire(page)["bookings"]}
    assert {id: positions[id] for id in (*asked, "rock1", "sold")} == dict(
        zip((*asked, "rock1", "sold"), (3, 2, 1, 1, None, None), strict=True)
    )


# While the line changes


# Only what loads bookings asks for this time. It has its snapshot already, and waits.
SLOW_LOAD = """
CREATE OR REPLACE FUNCTION ticketd.statement_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '0', false);
    PERFORM pg_advisory_lock_shared(7), pg_advisory_unlock_shared(7);
    RETURN current_setting('test.now')::timestamptz;
END $$;
SELECT pg_advisory_lock(7)
"""


async def test_a_line_is_never_mixed_with_an_older_state_of_its_event(
    database: str, sold_out: tuple[Ledger, Ledger]
) -> None:
    here, there = sold_out
    await told(there, Wait("jazz", 4, 900, "large"))
    await here.events()
    other = await asyncpg.connect(database)
    await other.execute(SLOW_LOAD)
    answering = asyncio.create_task(outcome(here, Cancel("sold"), Release("held"), Release("large")))
    await until_somebody_waits_for_a_lock(other)
    await other.execute(SWAP)
    await other.execute("SELECT pg_advisory_unlock(7)")
    assert await answering == ["cancelled", "released", "released"]
    assert (await states(database))["first"] == "held"
    await other.close()


LEAVE = """
UPDATE ticketd.bookings SET state = 'released', changes = '[["leave", 0, 5, 1]]' WHERE id = 'first';
UPDATE ticketd.events SET waiting = 1, version = 5
"""


@pytest.mark.parametrize("ids", [["first", "second"], ["second"]])
async def test_whoever_is_shown_waiting_is_shown_a_place(
    ids: list[str], database: str, sold_out: tuple[Ledger, Ledger]
) -> None:
    here, there = sold_out
    await told(there, WAIT, Wait("jazz", 2, 900, "second"))
    other = await asyncpg.connect(database)
    await other.execute(SLOW_LOAD)
    showing = asyncio.create_task(result_of(here.read, list(map(Show, ids))))
    await until_somebody_waits_for_a_lock(other)
    # The first one leaves while it is being read.
    await other.execute(LEAVE)
    await other.execute("SELECT pg_advisory_unlock(7)")
    answers = await showing
    shown = {reply["id"]: (reply["state"], reply.get("position")) for reply in map(on_the_wire, answers.replies)}
    assert shown == {id: {"first": ("released", None), "second": ("waiting", 1)}[id] for id in ids}
    # An event that is shown after the place is not older.
    assert [event.version for event in answers.events] == [5]
    await other.close()


# Without a commit, and after one that was lost


async def test_a_reply_is_true_although_it_was_lost_with_its_offers(
    database: str, clock: Clock, sold_out: tuple[Ledger, Ledger]
) -> None:
    here, there = sold_out
    await told(there, WAIT, Wait("jazz", 1, 900, "second"))
    with Proxy(database) as proxy:
        ledger = await PostgresStorage(proxy.url, clock).open()
        await ledger.events()
        # The answer to the commit is lost. Before the daemon finds out what became of it, others go on.
        proxy.inject([Fault("server", "commit", 0, 0.0, "reset"), Fault("client", "message", 0, 0.0, "freeze", 1.0)])
        asked: list[LedgerRequest] = [Cancel("sold"), Wait("jazz", 2, 900, "third"), Release("held"), Confirm("first")]
        answering = asyncio.create_task(transact(ledger, asked))
        await asyncio.to_thread(proxy.struck.get)
        async with asyncio.timeout(SECONDS_MAX):
            while (await states(database))["first"] != "confirmed":
                pass
        await told(there, Cancel("first"), Confirm("second"), Release("third"))
        answers = await answering
        await ledger.close()
    replies = [on_the_wire(reply) for reply in answers.replies]
    assert [(reply["state"], reply["available"], reply["version"], reply.get("position")) for reply in replies] == [
        ("cancelled", 2, 5, None), ("waiting", 0, 7, 2), ("released", 2, 8, None), ("confirmed", 1, 10, None),
    ]  # fmt: skip
    assert [booking.id for booking in answers.offered] == ["first", "second"]
    assert [event.version for event in answers.events] == [14]
    again = await told(here, Cancel("sold"), Wait("jazz", 2, 900, "third"), Release("held"))
    assert [reply["version"] for reply in again] == [5, 7, 8]


FULL = ErrorReply("storage_full", "nothing can be committed")


async def without_commit(ledger: Ledger, *requests: LedgerRequest) -> list[str]:
    def ask(requests: Sequence[LedgerRequest], done: object) -> Answers | None:
        return ledger.without_commit(requests, FULL, done)  # type: ignore[arg-type]

    answers = await result_of(ask, list(requests))
    return in_short(answers.replies)


async def test_a_full_disk_answers_those_who_wait_as_before(
    database: str, clock: Clock, sold_out: tuple[Ledger, Ledger]
) -> None:
    here, there = sold_out
    await told(there, WAIT)
    again = [WAIT, Wait("jazz", 1, 900, "new"), Release("first"), Confirm("first"), Book("jazz", 1, "b")]
    assert await without_commit(here, *again) == ["waiting", "storage_full", "storage_full", "bad_request", "sold_out"]
    clock.move(61)
    # What has run out is offered with the next commit, and until then is nobody's.
    assert await without_commit(here, *again) == ["waiting", "storage_full", "storage_full", "bad_request", "sold_out"]
    assert (await states(database))["held"] == "held"
    await transact(here, [])
    assert await without_commit(here, *again) == ["waiting", "storage_full", "storage_full", "storage_full", "sold_out"]
