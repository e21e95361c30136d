"""Lines, quotas, group commit, and a disk that fails: the box office over a real SQLite."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.daemon import running, write_events
from tests.faketime import Clock
from tests.faults.daemon import Machine
from tests.faults.disk import RealDisk, plugged
from tests.ledgers import LEDGERS, Ledger, new_ledger
from ticketd.books import LedgerRequest
from ticketd.box_office import BoxOffice
from ticketd.catalogue import Catalogue
from ticketd.config import Limits
from ticketd.ids import new_id
from ticketd.protocol import (
    Book,
    BookingReply,
    Confirm,
    Create,
    ErrorReply,
    EventReply,
    Hold,
    Redeem,
    Reply,
    Show,
)
from ticketd.stores.base import Committed, LedgerAwayError, More, OutcomeUnknownError, nothing_more
from ticketd.stores.sqlite import CHECKPOINT_PAGES, PAGES_COUNTED_MAX, SqliteStore

PAGE_BYTES = 4_096 + 24

Opened = Callable[..., AbstractAsyncContextManager[BoxOffice]]


@pytest.fixture(params=LEDGERS)
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """An empty ledger of each kind."""
    return new_ledger(request)


@pytest.fixture
def opened(ledger: Ledger) -> Opened:
    @asynccontextmanager
    async def opened(limits: Limits | None = None) -> AsyncIterator[BoxOffice]:
        store = await ledger.open()
        box_office = BoxOffice(store, Catalogue(await store.events()), limits or Limits())
        running = asyncio.create_task(box_office.run())
        for event in ("hot", "quiet"):
            await box_office.submit([Create(event, datetime(2027, 3, 11, tzinfo=UTC), 100_000, event)], "test")
        try:
            yield box_office
        finally:
            box_office.close()
            await asyncio.wait([running])
            if running.exception() is None:
                await store.close()

    return opened


# The others may take several commits at once, each for other events.
one_commit_at_a_time = pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)
on_this_disk = pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)


@pytest.fixture
def disk() -> Iterator[RealDisk]:
    disk = RealDisk()
    with plugged(disk):
        yield disk


def code(reply: Reply) -> str | None:
    return reply.code if isinstance(reply, ErrorReply) else None


async def test_ten_thousand_buyers_of_one_event_delay_the_buyer_of_another_by_one_commit(opened: Opened) -> None:
    async with opened(Limits(rows_per_desk_max=200)) as box_office:
        hot = [box_office.submit([Book("hot", 1)], "crowd") for _ in range(10_000)]
        quiet = await box_office.submit([Book("quiet", 1)], "buyer")
        assert isinstance(quiet[0], BookingReply)
        assert sum(future.done() for future in hot) == 100
        assert box_office.counts.commits == 2 + 1
        replies = [(await future)[0] for future in hot]
    # First come, first served: in the order in which they were submitted.
    assert [reply.version for reply in replies if isinstance(reply, BookingReply)] == list(range(1, 10_001))


async def test_a_thousand_confirms_of_one_event_delay_what_others_do_with_another_by_one_commit(
    opened: Opened,
) -> None:
    async with opened() as box_office:
        holds = [Hold("hot", 1, 60, f"h{number}") for number in range(1_000)]
        await asyncio.gather(*(box_office.submit([hold], "crowd") for hold in holds))
        await box_office.submit([Hold("quiet", 1, 60, "mine")], "buyer")
        before = box_office.counts.commits
        confirms = [box_office.submit([Confirm(str(hold.booking))], f"peer {hold.booking}") for hold in holds]
        await box_office.submit([Confirm("mine")], "buyer")
        assert box_office.counts.commits == before + 1
        await confirms[-1]


@one_commit_at_a_time
async def test_every_desk_is_served_in_turn_when_a_commit_has_no_room_for_all(opened: Opened) -> None:
    async with opened(Limits(rows_per_desk_max=20, rows_per_commit_max=20)) as box_office:
        first = [box_office.submit([Book("hot", 1)], "crowd") for _ in range(100)]
        second = [box_office.submit([Book("quiet", 1)], "crowd") for _ in range(20)]
        await second[-1]
        assert sum(future.done() for future in first) == 20
        await first[-1]


async def test_nobody_gets_past_a_line_by_way_of_a_shorter_one(opened: Opened) -> None:
    async with opened(Limits(rows_per_desk_max=8)) as box_office:
        honest = [box_office.submit([Book("hot", 1)], "crowd") for _ in range(40)]
        for detour in (Show("nothing"), Book("quiet", 1)):
            sly = (await box_office.submit([detour, Book("hot", 1)], "sly"))[1]
            assert isinstance(sly, BookingReply)
            assert sly.version > 40
        assert all(future.done() for future in honest)


async def test_a_commit_is_bounded_in_tickets_whatever_one_booking_may_have(opened: Opened) -> None:
    async with opened() as box_office:
        bookings = [box_office.submit([Book("hot", 1_000)], "greedy") for _ in range(20)]
        await bookings[0]
        assert not bookings[2].done()
        await bookings[-1]


@one_commit_at_a_time
async def test_a_large_booking_that_does_not_fit_any_more_is_first_in_the_next_commit(opened: Opened) -> None:
    async with opened(Limits(rows_per_desk_max=8, rows_per_commit_max=12)) as box_office:
        for number in range(3):
            await box_office.submit([Create("x", datetime(2027, 3, 11, tzinfo=UTC), 100_000, f"e{number}")], "test")
        crowd = [box_office.submit([Book("e0", 1)], "crowd") for _ in range(40)]
        large = box_office.submit([Book("e1", 9)], "large")
        small = [box_office.submit([Book("e2", 1)], "small") for _ in range(40)]
        await large
        # The crowd had its share of two commits at the most, and nobody else went before.
        assert sum(future.done() for future in crowd) <= 8
        assert sum(future.done() for future in small) <= 1
        await asyncio.gather(*crowd, *small)


async def test_who_asks_for_many_large_bookings_gets_a_few_of_them_at_a_time(opened: Opened) -> None:
    async with opened() as box_office:
        await asyncio.gather(*(box_office.submit([Book("hot", 1_000, f"b{number}")], "greedy") for number in range(20)))
        shows = [box_office.submit([Show(f"b{number}")], "greedy") for number in range(20)]
        await shows[0]
        assert not shows[2].done()
        await shows[-1]


async def test_what_waits_during_a_commit_is_committed_together(opened: Opened) -> None:
    async with opened() as box_office:
        await asyncio.gather(*(box_office.submit([Book("hot", 1)], "crowd") for _ in range(500)))
        # One half of those who came to an idle box office, and the other, which waited during the commit of the first.
        assert box_office.counts.commits == 2 + 2


async def test_a_batch_of_refusals_costs_no_commit(opened: Opened) -> None:
    async with opened() as box_office:
        replies = await box_office.submit([Book("nowhere", 1), Show("nothing"), Book("hot", 1_000_000)], "test")
        assert [code(reply) for reply in replies] == ["event_not_found", "not_found", "sold_out"]
        assert box_office.counts.commits == 2


async def test_what_waited_too_long_is_told_that_nothing_was_done(opened: Opened) -> None:
    async with opened(Limits(desk_seconds_max=1e-9)) as box_office:
        reply = (await box_office.submit([Book("hot", 1)], "test"))[0]
        assert (code(reply), box_office.counts.bookings) == ("busy", 0)


async def test_after_the_close_nothing_is_taken_in_and_what_stands_in_line_is_answered(opened: Opened) -> None:
    async with opened() as box_office:
        before = box_office.submit([Book("hot", 1)], "test")
        box_office.close()
        after = box_office.submit([Book("hot", 1)], "test")
        assert isinstance((await before)[0], BookingReply)
        assert code((await after)[0]) == "shutting_down"


async def test_a_request_that_meets_a_bug_spoils_nothing_beside_it(opened: Opened) -> None:
    async with opened() as box_office:
        poison = Redeem(["no id"])  # type: ignore[arg-type]
        futures = [box_office.submit([request], "test") for request in (Book("hot", 1), poison, Book("hot", 1))]
        replies = [(await future)[0] for future in futures]
        assert [code(reply) for reply in replies] == [None, "internal", None]
        assert [reply.version for reply in replies if isinstance(reply, BookingReply)] == [1, 2]


@on_this_disk
async def test_everybody_is_answered_when_the_disk_fails_while_a_bug_is_sought(disk: RealDisk, opened: Opened) -> None:
    async with opened() as box_office:
        poison = Redeem(["no id"])  # type: ignore[arg-type]
        requests: list[LedgerRequest] = [Book("hot", 1), poison, Book("hot", 1), Book("quiet", 1)]
        futures = [box_office.submit([request], "test") for request in requests]
        disk.sync_fails = True
        codes = [code((await future)[0]) for future in futures]
        assert codes == ["outcome_unknown", "shutting_down", "shutting_down", "shutting_down"]
        disk.sync_fails = False


async def when_there_is_room(box_office: BoxOffice, request: LedgerRequest) -> Reply:
    """Ask as often as is said, until the disk is not full any more."""
    async with asyncio.timeout(20):
        while True:
            reply = (await box_office.submit([request], "test"))[0]
            if not (isinstance(reply, ErrorReply) and reply.retry_after):
                return reply
            await asyncio.sleep(reply.retry_after)


@on_this_disk
async def test_a_full_disk_refuses_writes_serves_reads_and_resumes(disk: RealDisk, opened: Opened) -> None:
    async with opened() as box_office:
        booked = (await box_office.submit([Book("hot", 1, "first")], "test"))[0]
        disk.full = True
        for _ in range(3):
            refused = (await box_office.submit([Book("hot", 1, "second")], "test"))[0]
            assert isinstance(refused, ErrorReply)
            assert (refused.code, refused.retry_after) == ("storage_full", 1)
        assert (await box_office.submit([Show("first")], "test"))[0] == booked
        disk.full = False
        second = await when_there_is_room(box_office, Book("hot", 1, "second"))
        assert isinstance(second, BookingReply)
        assert (second.version, second.replayed) == (2, False)


async def test_on_a_full_disk_holds_stay_held_until_their_end_is_durable(disk: RealDisk, tmp_path: Path) -> None:
    clock = Clock()
    store = SqliteStore(tmp_path / "events.db", new_id, 30, clock)
    catalogue = Catalogue([])
    box_office = BoxOffice(store, catalogue, Limits())
    running = asyncio.create_task(box_office.run())

    async def ask(request: LedgerRequest) -> Reply:
        return (await box_office.submit([request], "test"))[0]

    await ask(Create("Jazz", datetime(2027, 3, 11, tzinfo=UTC), 5, "jazz"))
    held = await ask(Hold("jazz", 5, 60, "h"))
    disk.full = True
    clock.move(60)
    for _ in range(3):
        assert await ask(Show("h")) == held
        assert getattr(await ask(Show("jazz")), "held", None) == 5
        assert code(await ask(Book("jazz", 5, "b"))) == "sold_out"
        assert code(await ask(Confirm("h"))) == "storage_full"
    event = catalogue.get("jazz")
    assert event is not None
    assert (event.held, event.version) == (5, 1)
    # A clock that is set back now finds nothing that it could bring back to life.
    clock.move(-30)
    assert getattr(await ask(Show("h")), "state", None) == "held"
    disk.full = False
    clock.move(30)
    assert code(await when_there_is_room(box_office, Confirm("h"))) == "hold_expired"
    booked = await ask(Book("jazz", 5, "b"))
    assert isinstance(booked, BookingReply)
    assert booked.version == 3
    box_office.close()
    await running
    await store.close()


@on_this_disk
async def test_on_a_full_disk_what_was_done_before_is_told_to_who_asks_again(disk: RealDisk, opened: Opened) -> None:
    async with opened() as box_office:
        first = (await box_office.submit([Book("hot", 1, "first")], "test"))[0]
        disk.full = True
        of_first: list[LedgerRequest] = [Book("hot", 1, "first"), Book("hot", 2, "first")]
        party = [Book("hot", 1, "second"), *of_first, Show("hot")]
        refused, again, conflict, shown = await box_office.submit(party, "test")
        assert code(refused) == "storage_full"
        assert isinstance(again, BookingReply)
        assert isinstance(first, BookingReply)
        assert (again.tickets, again.replayed) == (first.tickets, True)
        assert getattr(shown, "sold", None) == 1
        assert code(conflict) == "booking_conflict"
        disk.full = False


@on_this_disk
async def test_on_a_full_disk_who_reads_does_not_suffer_for_who_writes(disk: RealDisk, opened: Opened) -> None:
    async with opened() as box_office:
        await box_office.submit([Book("hot", 1, "mine")], "test")
        disk.full = True
        writer = box_office.submit([Book("hot", 1)], "writer")
        reader = box_office.submit([Show("mine")], "reader")
        assert code((await writer)[0]) == "storage_full"
        assert isinstance((await reader)[0], BookingReply)
        disk.full = False


async def test_holds_of_thousands_of_events_run_out_in_one_commit(tmp_path: Path) -> None:
    clock = Clock()
    # A commit may take two seconds, and one more. It is a tenth, unless the time grows with events times holds.
    store = SqliteStore(tmp_path / "events.db", new_id, 2, clock)
    date = datetime(2027, 3, 11, tzinfo=UTC)
    numbers = range(10_000)
    await store.transact([Create("Jazz", date, 5, f"e{number}") for number in numbers])
    for holds, quantity in (("h", 2), ("k", 3)):
        await store.transact([Hold(f"e{number}", quantity, 60, f"{holds}{number}") for number in numbers])
    clock.move(60)
    _, events, _ = await store.transact([])
    assert (len(events), store.next_expiry) == (10_000, None)
    assert all(event.available == 5 for event in await store.events())
    shown = (await store.transact([Show(f"h{number}") for number in numbers])).replies
    assert {getattr(reply, "state", None) for reply in shown} == {"expired"}
    await store.close()


class AfterMonths(SqliteStore):
    """Has written so many pages that their count begins anew soon."""

    def _pages_written(self) -> int:
        return (super()._pages_written() + PAGES_COUNTED_MAX - CHECKPOINT_PAGES) % PAGES_COUNTED_MAX


async def test_the_log_is_folded_into_the_file_for_as_long_as_the_daemon_runs(tmp_path: Path) -> None:
    store = AfterMonths(tmp_path / "events.db", new_id, 30)
    await store.transact([Create("Jazz", datetime(2027, 3, 11, tzinfo=UTC), 100_000, "hot")])
    for _ in range(100):
        await store.transact([Book("hot", 1, new_id()) for _ in range(2_000)])
        await store.tidy()
    assert (tmp_path / "events.db-wal").stat().st_size < 2 * CHECKPOINT_PAGES * 4_096
    await store.close()


class AwayStore(SqliteStore):
    """Cannot be reached for the first few times."""

    tries = 0

    async def transact(self, requests: list[LedgerRequest], more: More = nothing_more) -> Committed:
        self.tries += 1
        if self.tries <= 3:
            raise LedgerAwayError("away")
        return await super().transact(requests, more)


async def test_while_the_ledger_is_away_who_only_looks_is_answered_once_and_the_others_wait(tmp_path: Path) -> None:
    store = AwayStore(tmp_path / "events.db", new_id, 30)
    box_office = BoxOffice(store, Catalogue([]), Limits())
    answers: list[list[Reply]] = []
    box_office.enter([], "looker", answers.append)
    created = box_office.submit([Create("Jazz", datetime(2027, 3, 11, tzinfo=UTC), 5, "jazz")], "test")
    running = asyncio.create_task(box_office.run())
    assert isinstance((await created)[0], EventReply)
    assert store.tries == 4
    assert answers == [[]]
    box_office.close()
    await running
    await store.close()


@on_this_disk
async def test_a_sync_that_fails_is_never_called_a_failure_and_ends_the_box_office(
    disk: RealDisk, opened: Opened
) -> None:
    async with opened() as box_office:
        disk.sync_fails = True
        unknown = box_office.submit([Book("hot", 1)], "test")
        assert code((await unknown)[0]) == "outcome_unknown"
        assert code((await box_office.submit([Book("hot", 1)], "test"))[0]) == "shutting_down"
        # The daemon would exit here; in this process the abandoned connection is closed some day.
        disk.sync_fails = False


async def test_a_disk_that_hangs_is_given_up_after_the_deadline(disk: RealDisk, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.db", new_id, 0.2)
    box_office = BoxOffice(store, Catalogue([]), Limits())
    running = asyncio.create_task(box_office.run())
    disk.sync_may_end.clear()
    try:
        created = box_office.submit([Create("x", datetime(2027, 3, 11, tzinfo=UTC), 5)], "test")
        assert code((await created)[0]) == "outcome_unknown"
        with pytest.raises(OutcomeUnknownError):
            await running
    finally:
        disk.sync_may_end.set()


def test_a_daemon_whose_disk_fails_ends_with_status_6_and_the_same_id_settles_it(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    machine = Machine(tmp_path)
    with running(tmp_path, module=machine.module, env=machine.env) as daemon:
        with daemon.connect() as connection:
            assert connection.ask("book 1 1 --booking first")["version"] == 1
            machine.fail_syncs()
            assert connection.ask("book 1 1 --booking second")["code"] == "outcome_unknown"
            connection.rest()
        assert daemon.wait() == 6
    with running(tmp_path) as daemon, daemon.connect() as connection:
        assert connection.ask("book 1 1 --booking first")["replayed"]
        assert connection.ask("book 1 1 --booking second")["version"] == 2
        assert connection.ask("show 1")["sold"] == 2


async def test_the_ledger_outlives_the_process_that_wrote_it(ledger: Ledger, opened: Opened) -> None:
    async with opened() as box_office:
        booked = (await box_office.submit([Book("hot", 3, "mine")], "test"))[0]
        assert isinstance(booked, BookingReply)
    store = await ledger.open()
    events = await store.events()
    assert [(event.id, event.sold, event.version) for event in events] == [("hot", 3, 1), ("quiet", 0, 0)]
    replies, _, changed = await store.transact([Book("hot", 3, "mine"), Show(booked.tickets[2]), Show("hot")])
    await store.close()
    replayed, ticket, event = replies
    assert isinstance(replayed, BookingReply)
    assert (replayed.tickets, replayed.replayed) == (booked.tickets, True)
    assert getattr(ticket, "booking", None) == "mine"
    assert isinstance(event, EventReply)
    assert not changed


async def test_a_checkpoint_keeps_the_log_short(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "events.db", new_id, 30)
    log = tmp_path / "events.db-wal"
    date = datetime(2027, 3, 11, tzinfo=UTC)
    for number in range(121):
        await store.transact([Create("n" * 200, date, 5, f"e{number}-{index}") for index in range(1_000)])
        await store.tidy()
        assert log.stat().st_size < (CHECKPOINT_PAGES + 500) * PAGE_BYTES
    assert len(await store.events()) == 121_000
    await store.close()
    assert not log.exists()
