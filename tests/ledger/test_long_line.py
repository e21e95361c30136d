"""Very many wait for one event: what that costs, and how a batch after the other serves them, and nobody else."""

import asyncio
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.callbacks import commit, read
from tests.daemon import running
from tests.faketime import Clock
from tests.ledger.sale import ticketd
from tests.ledger.waiting import codes, make_long_line
from tests.ledgers import EmbeddedStorage
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.ledger.embedded.waiting_lists import EVENTS_PER_BATCH_MAX, WaitingLists
from ticketd.model import WAITING_MAX, Event
from ticketd.rules.waiting_list import OFFERED_PER_BATCH_MAX
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingReply
from ticketd.wire.requests import Amend, Book, Cancel, Confirm, Create, Show, Wait

DATE = datetime(2027, 3, 11, tzinfo=UTC)
# Of the largest line, each waits for so many tickets in turn.
QUANTITIES = (4, 2, 1, 3)


async def steps_of_a_ticket(path: Path, waiting: int) -> int:
    """Return how many steps of SQLite it takes to cancel one ticket and offer it, while so many wait."""
    await make_long_line(path, [QUANTITIES[place % 4] for place in range(waiting)])
    ledger = EmbeddedLedger(path, 30, Clock())
    # The statements are prepared, and what is read of the schema is read.
    for place in (2, 6):
        steps = 0

        def step() -> bool:
            nonlocal steps
            steps += 1
            return False

        ledger._connection.set_progress_handler(step, 1)
        answers = await commit(ledger, Cancel("s", [f"s.{place:012x}"]))
        assert [booking.id for booking in answers.offered] == [f"w{place:06}"]
    ledger._connection.set_progress_handler(None)
    first, last = read(ledger, Show("w000000"), Show(f"w{waiting - 1:06}"))
    assert isinstance(first, BookingReply)
    assert isinstance(last, BookingReply)
    assert (first.position, last.position) == (1, waiting - 2)
    if waiting == WAITING_MAX:
        more = [Wait("e", 1, 30, f"more-{number}") for number in range(3)]
        assert codes((await commit(ledger, *more)).replies) == ["waiting", "waiting", "waiting_list_full"]
    await ledger.close()
    return steps


async def test_a_ticket_costs_as_much_however_many_wait_for_it(tmp_path: Path) -> None:
    few = await steps_of_a_ticket(tmp_path / "few.db", 1_000)
    assert await steps_of_a_ticket(tmp_path / "many.db", WAITING_MAX) == few
    # Reading any row takes more than one.
    assert 100 < few < 2_000


def test_whoever_waits_takes_8_bytes_of_memory() -> None:
    event = Event("e", "E", DATE, 1, 0, 0, 1, WAITING_MAX + 1, 1, waiting=WAITING_MAX)
    tracemalloc.start()
    try:
        lines = WaitingLists((("e", version) for version in range(2, WAITING_MAX + 2)), [event])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # An array grows in steps, by an eighth at most.
    assert kept < 9 * WAITING_MAX + 2_000
    assert lines.next_turn is None


async def test_those_who_wait_for_a_larger_hall_get_it_batch_by_batch(tmp_path: Path) -> None:
    storage = EmbeddedStorage(tmp_path / "ledger", Clock())
    (tmp_path / "ledger").mkdir()
    await make_long_line(tmp_path / "ledger" / "events.db", [1] * 5_000)
    ledger = await storage.open()
    got: list[str] = []
    batches: list[tuple[list[LedgerRequest], list[str]]] = [
        # One more than they need.
        ([Amend("e", capacity=5_011), Book("e", 1, "a")], ["EventReply", "busy"]),
        ([], []),
        ([Book("e", 1, "b"), Confirm("w000000")], ["busy", "confirmed"]),
        ([], []),
        ([Book("e", 1, "c")], ["confirmed"]),
    ]
    for requests, expected in batches:
        answers = await commit(ledger, *requests)
        assert codes(answers.replies) == expected
        assert len(answers.offered) == OFFERED_PER_BATCH_MAX
        got += [booking.id for booking in answers.offered]
        # It says that there is more to do, until all is done, and whoever opens it finds out.
        assert (ledger.next_expiry == 0) == (len(got) < 5_000)
        await storage.crash(ledger)
        ledger = await storage.open()
    assert got == [f"w{place:06}" for place in range(5_000)]
    assert [(event.held, event.sold, event.available, event.waiting) for event in await ledger.events()] == [
        (4_999, 12, 0, 0)
    ]
    await ledger.close()


async def test_the_lines_of_several_events_share_a_batch(tmp_path: Path) -> None:
    ledger = EmbeddedLedger(tmp_path / "events.db", 30, Clock())
    events = ("a", "b", "c")
    await commit(ledger, *(Create("E", DATE, 700, event) for event in (*events, "free")))
    await commit(ledger, *(Book(event, 700, f"{event}-sold") for event in events))
    await commit(ledger, *(Wait(event, 1, 30, f"{event}{place:03}") for place in range(600) for event in events))
    freed = [Cancel(f"{event}-sold") for event in events]
    public = [Book(event, 1, f"{event}-public") for event in (*events, "free")]
    answers = await commit(ledger, *freed, *public)
    assert len(answers.offered) == 2 * 600
    # Two are served, so they sell the rest.
    assert sorted(codes(answers.replies[3:6])) == ["busy", "confirmed", "confirmed"]
    assert codes(answers.replies[6:]) == ["confirmed"]
    assert ledger.next_expiry == 0
    assert len((await commit(ledger)).offered) == 600
    assert ledger.next_expiry == ledger.now() + 30_000
    assert {event.waiting for event in await ledger.events()} == {0}
    await ledger.close()


async def test_a_long_line_is_served_while_others_keep_buying_tickets_of_other_events(tmp_path: Path) -> None:
    await make_long_line(tmp_path / "events.db", [1] * 1_200)
    ledger = EmbeddedLedger(tmp_path / "events.db", 30, Clock())
    # Of the other events, whoever waits needs more than is left.
    others = ("jazz", "rock")
    for other in others:
        await commit(
            ledger,
            Create("E", DATE, 700, other),
            Book(other, 100, f"{other}-sold"),
            Wait(other, 700, 30, f"{other}-party"),
        )
    told: list[tuple[int, list[str]]] = []
    for requests in ([Amend("e", capacity=5_010)], [Book("e", 1, "a")], [Book("e", 1, "b")]):
        answers = await commit(ledger, *requests, *(Book(other, 1, f"{other}-{len(told)}") for other in others))
        told.append((len(answers.offered), codes(answers.replies)))
    # Nor does anybody keep the public of those events from buying.
    assert told == [
        (0, ["EventReply", "confirmed", "confirmed"]),
        (1_000, ["busy", "confirmed", "confirmed"]),
        (200, ["confirmed", "confirmed", "confirmed"]),
    ]
    await ledger.close()


async def test_very_many_sales_that_open_at_once_are_served_batch_by_batch(tmp_path: Path) -> None:
    events = 2 * EVENTS_PER_BATCH_MAX + 1
    ids = [f"e{number}" for number in range(events)]
    clock = Clock()
    ledger = EmbeddedLedger(tmp_path / "events.db", 30, clock)
    for id_ in ids:
        await commit(ledger, Create("E", DATE, 1, id_), Book(id_, 1, f"{id_}-sold"), Wait(id_, 1, 30, f"{id_}-waits"))
        later = Amend(id_, opens=clock.time + timedelta(seconds=60))
        assert not (await commit(ledger, later, Cancel(f"{id_}-sold"))).offered
    clock.move(60)
    offered = []
    while ledger.next_expiry == clock():
        offered.append(len((await commit(ledger)).offered))
    assert offered == [EVENTS_PER_BATCH_MAX, EVENTS_PER_BATCH_MAX, 1]
    await ledger.close()


async def test_those_who_must_leave_at_their_turn_do_not_keep_the_public_waiting_one_by_one(tmp_path: Path) -> None:
    await make_long_line(tmp_path / "events.db", [1] * 3_000)
    ledger = EmbeddedLedger(tmp_path / "events.db", 30, Clock())
    # None of them has named a buyer.
    await commit(ledger, Amend("e", per_buyer=4), Cancel("s", [f"s.{0:012x}"]))
    batches = 0
    while ledger.next_expiry == 0:
        await commit(ledger)
        batches += 1
    assert batches == 3
    assert [event.waiting for event in await ledger.events()] == [0]
    await ledger.close()


@pytest.mark.parametrize("limit", [5, 1_000])
async def test_whoever_waits_very_often_gets_no_more_than_a_limit_that_is_set_since(tmp_path: Path, limit: int) -> None:
    ledger = EmbeddedLedger(tmp_path / "events.db", 30, Clock())
    await commit(ledger, Create("E", DATE, 2_000, "e"), *(Book("e", 1_000, f"sold{number}") for number in range(2)))
    await commit(ledger, *(Wait("e", 1, 30, f"w{number}", "bob") for number in range(2_500)))
    await commit(ledger, Amend("e", per_buyer=limit), Cancel("sold0"))
    while ledger.next_expiry == 0:
        await commit(ledger)
    assert [(event.waiting, event.held) for event in await ledger.events()] == [(0, limit)]
    await ledger.close()


def test_the_public_gets_nothing_before_all_who_wait_are_served(tmp_path: Path) -> None:
    asyncio.run(make_long_line(tmp_path / "events.db", [1] * 3_000))
    with running(tmp_path) as daemon, daemon.connect() as manager, daemon.connect() as public:
        public.send(b"book e 1\n" * 20)
        manager.send(b"amend e --capacity 3010\n")
        public.send(b"book e 1\n" * 20)
        assert manager.read()["capacity"] == 3_010
        # From now on nobody asks for anything that would be decided in a commit.
        manager.send(b"watch e\n")
        while manager.read().get("waiting"):
            pass
        assert {public.read()["code"] for _ in range(40)} <= {"sold_out", "busy"}
        assert public.ask("show e")["held"] == 3_000
        assert daemon.end() == 0
    assert ticketd("check", str(tmp_path / "events.db")).stdout.splitlines()[-1] == "whole"
