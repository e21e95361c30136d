"""The ledger in one SQLite file: what it tells when, its log, its pages, and many holds that run out at once."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from tests.callbacks import Outcome, commit, read
from tests.faketime import Clock
from tests.faults.disk import Call, Content, Disk, RealDisk, plugged
from ticketd.ids import new_id
from ticketd.ledger.base import ROWS_PER_SLICE, Answers, LedgerFailedError, OutcomeUnknownError, StorageFullError
from ticketd.ledger.embedded import database
from ticketd.ledger.embedded import ledger as embedded
from ticketd.ledger.embedded.database import CHECKPOINT_PAGES, PAGES_COUNTED_MAX, Database
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.model import ticket_id
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingReply, BookingsReply, ErrorReply, EventReply, Reply
from ticketd.wire.requests import Book, Bookings, Cancel, Confirm, Create, Hold, Redeem, Request, Show

PAGE_BYTES = 4_096 + 24
DATE = datetime(2027, 3, 11, tzinfo=UTC)
JAZZ = Create("Jazz", DATE, 100_000, "jazz")
SECONDS_MAX = 30.0
IN_MEMORY = Path("/ledger/events.db")


async def opened(folder: Path, clock: Clock | None = None) -> EmbeddedLedger:
    return EmbeddedLedger(folder / "events.db", SECONDS_MAX, clock or Clock())


def never(result: object) -> None:
    raise AssertionError(f"this is not told later: {result}")


def booked(reply: Reply) -> BookingReply:
    assert isinstance(reply, BookingReply), reply
    return reply


def codes(replies: Sequence[Reply]) -> list[str | None]:
    return [reply.code if isinstance(reply, ErrorReply) else None for reply in replies]


# What is told, and when


async def test_a_change_is_told_later_once_it_is_durable(tmp_path: Path) -> None:
    disk = RealDisk()
    with plugged(disk):
        ledger = await opened(tmp_path)
        await commit(ledger, JAZZ)
        disk.sync_may_end.clear()
        outcome = Outcome()
        assert ledger.transact([Book("jazz", 2, "b"), Hold("jazz", 3, 60, "h")], outcome) is None
        await asyncio.sleep(0)
        assert not outcome.came
        # Nobody can see what is not durable yet, nor read between its writes.
        assert not ledger.can_read
        assert [(event.sold, event.held, event.version) for event in await ledger.events()] == [(0, 0, 0)]
        assert (ledger.held("h"), ledger.next_expiry) == (None, None)
        disk.sync_may_end.set()
        committed = await outcome.told()
        assert [booked(reply).version for reply in committed.replies] == [1, 2]
        assert [(event.sold, event.held, event.version) for event in committed.events] == [(2, 3, 2)]
        assert committed.changed
        assert await ledger.events() == committed.events
        assert (ledger.held("h"), ledger.held("b")) == (("jazz", 3), None)
        assert ledger.next_expiry == ledger.now() + 60_000
        await ledger.close()


async def test_the_next_commit_and_a_read_may_begin_in_done(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    seen: list[Reply] = []
    first, last = Outcome(), Outcome()

    def done(result: Answers | Exception) -> None:
        assert isinstance(result, Answers)
        assert ledger.can_read
        seen.extend(read(ledger, Show("b")))
        assert ledger.transact([Book("jazz", 1, "c")], last) is None
        first(result)

    assert ledger.transact([JAZZ, Book("jazz", 1, "b")], done) is None
    await first.told()
    assert booked(seen[0]).id == "b"
    assert booked((await last.told()).replies[0]).version == 2
    await ledger.close()


async def test_what_changes_nothing_is_told_at_once(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    await commit(ledger, JAZZ, Book("jazz", 2, "b"))
    for requests in ([], [JAZZ], [Book("jazz", 2, "b"), Book("jazz", 3, "b"), Redeem("b.0123456789ab"), Confirm("x")]):
        result = ledger.transact(list[LedgerRequest](requests), never)
        assert result is not None
        assert (result.changed, result.events, len(result.replies)) == (False, (), len(requests))
    await ledger.close()


async def test_a_batch_is_whole_or_not_at_all_when_there_is_no_room(tmp_path: Path) -> None:
    disk, clock = RealDisk(), Clock()
    with plugged(disk):
        ledger = await opened(tmp_path, clock)
        await commit(ledger, JAZZ, Hold("jazz", 2, 60, "h"), Hold("jazz", 3, 90, "i"), Book("jazz", 4, "b"))
        before = await ledger.events(), ledger.next_expiry
        disk.full = True
        clock.move(60)
        for _ in range(3):
            with pytest.raises(StorageFullError, match=r"no room for the ledger .*events\.db"):
                await commit(ledger, Confirm("i"), Book("jazz", 1, "c"), Cancel("b"))
        assert (await ledger.events(), ledger.next_expiry) == before
        assert [
            getattr(reply, "state", None) for reply in read(ledger, Show("h"), Show("i"), Show("b"), Show("c"))
        ] == [*("held", "held", "confirmed", None)]
        disk.full = False
        replies = (await commit(ledger, Confirm("i"), Book("jazz", 1, "c"), Cancel("b"))).replies
        assert codes(replies) == [None] * 3
        assert ledger.next_expiry is None
        await ledger.close()


async def test_without_a_commit_only_what_needs_none_is_answered(tmp_path: Path) -> None:
    clock = Clock()
    ledger = await opened(tmp_path, clock)
    await commit(ledger, JAZZ, Book("jazz", 1, "b"), Hold("jazz", 2, 60, "h"))
    clock.move(61)
    otherwise = ErrorReply("storage_full", "full")
    answers = ledger.without_commit(
        [
            JAZZ,
            Book("jazz", 1, "b"),
            Book("jazz", 1, "c"),
            Book("none", 1, "d"),
            Confirm("h"),
            Hold("jazz", 2, 60, "h"),
        ],
        otherwise,
        never,
    )
    assert answers is not None
    created, again, new, refused, confirm, held = answers.replies
    assert isinstance(created, EventReply)
    assert created.replayed
    assert booked(again).replayed
    # The hold ran out, and still is a hold: what is not durable is not true yet.
    assert [new, confirm] == [otherwise, otherwise]
    assert codes([refused]) == ["event_not_found"]
    assert booked(held).state == "held"
    # Each is decided by itself, and leaves nothing behind.
    assert [event.sold for event in await ledger.events()] == [1]
    assert codes((await commit(ledger, Confirm("h"))).replies) == ["hold_expired"]
    await ledger.close()


async def test_after_a_failed_sync_the_ledger_has_failed(tmp_path: Path) -> None:
    disk = RealDisk()
    with plugged(disk):
        ledger = await opened(tmp_path)
        await commit(ledger, JAZZ)
        disk.sync_fails = True
        with pytest.raises(LedgerFailedError, match="COMMIT failed"):
            await commit(ledger, Book("jazz", 1, "b"))


@pytest.mark.parametrize("request_", [Show("b"), Bookings(), Redeem("b.0123456789ab")])
async def test_a_disk_that_cannot_be_read_has_failed(request_: Request) -> None:
    broken: list[bool] = []

    def before(call: Call, content: Content | None) -> None:
        if broken and call.operation == "read":
            raise apsw.exception_for(apsw.SQLITE_IOERR_READ)

    with plugged(Disk(before=before)):
        ledger = EmbeddedLedger(IN_MEMORY, SECONDS_MAX, Clock())
        await commit(ledger, JAZZ, *(Book("jazz", 1, f"b{number}") for number in range(1_000)))
        ledger._connection.release_memory()
        broken.append(True)
        with pytest.raises(LedgerFailedError, match="cannot be read"):
            ledger.transact([request_], never) if isinstance(request_, Redeem) else ledger.read([request_], never)


# Pages, and slices of what is read


async def page(ledger: EmbeddedLedger, after: str = "", limit: int = 100) -> tuple[list[str], bool]:
    [reply] = read(ledger, Bookings(after, limit) if after else Bookings(limit=limit))
    assert isinstance(reply, BookingsReply)
    return [booking.id for booking in reply.bookings], reply.more


async def test_a_page_ends_at_its_limit_or_after_1000_tickets(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    assert await page(ledger) == ([], False)
    sizes = {"a": 400, "b": 600, "c": 1, "d": 1_000, "e": 1_000, "f": 1, "g": 1}
    await commit(ledger, JAZZ, *(Book("jazz", quantity, id_) for id_, quantity in sizes.items()))
    # The one that goes beyond is left for the next page, and a page is never empty because of its size.
    assert await page(ledger) == (["a", "b"], True)
    assert await page(ledger, "b") == (["c"], True)
    assert await page(ledger, "c") == (["d"], True)
    assert await page(ledger, "d") == (["e"], True)
    assert await page(ledger, "e") == (["f", "g"], False)
    assert await page(ledger, "e", 1) == (["f"], True)
    assert await page(ledger, "e", 2) == (["f", "g"], False)
    assert await page(ledger, "f", 1) == (["g"], False)
    assert await page(ledger, "g") == ([], False)
    await ledger.close()


async def test_a_page_shows_each_redemption_at_its_booking(tmp_path: Path) -> None:
    clock = Clock()
    ledger = await opened(tmp_path, clock)
    _, *replies = (await commit(ledger, JAZZ, *(Book("jazz", 3, id_) for id_ in ("a", "a.b", "c")))).replies
    tickets = [booked(reply).tickets for reply in replies]
    await commit(ledger, Redeem(tickets[1][2]))
    first = clock.time
    clock.move(7.5)
    await commit(ledger, Redeem(tickets[1][0]), Redeem(tickets[0][1]), Cancel("a.b", [tickets[1][1]]))
    [shown] = read(ledger, Bookings())
    assert isinstance(shown, BookingsReply)
    a, ab, c = shown.bookings
    assert (a.redeemed, a.redeemed_at) == ([tickets[0][1]], [clock.time])
    assert (ab.redeemed, ab.redeemed_at) == ([tickets[1][0], tickets[1][2]], [clock.time, first])
    assert (ab.cancelled, c.redeemed) == ([tickets[1][1]], ())
    await ledger.close()


async def test_a_slice_is_so_many_rows_or_one_booking_alone(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    small = [Book("jazz", 3, f"s{number}") for number in range(200)]
    await commit(ledger, JAZZ, Book("jazz", 1_000, "large"), *small)
    shows: list[Request] = [Show(str(book.booking)) for book in small]

    def sliced(*requests: Request) -> int:
        answers = ledger.read(requests, never)
        assert answers
        return len(answers.replies)

    assert sliced(Show("large"), *shows) == 1
    # Each is a request, a booking and 3 tickets.
    assert sliced(*shows) == math.ceil(ROWS_PER_SLICE / 5)
    assert sliced(shows[0], Show("large"), *shows) == 2
    assert sliced(Bookings(), *shows) == 1
    assert len(read(ledger, *shows, Show("large"), Show("none"))) == 202
    await ledger.close()


async def test_a_ticket_is_found_by_its_id_wherever_points_are(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    a = booked((await commit(ledger, JAZZ, Book("jazz", 1, "a"))).replies[1]).tickets[0]
    _, b, other = (await commit(ledger, Book("jazz", 1, "x"), Book("jazz", 1, "a.b"), Book("jazz", 1, a))).replies
    wanted = [a, *booked(b).tickets, *booked(other).tickets]
    shown = read(ledger, *map(Show, wanted))
    # The id of a ticket may be taken for a booking, which is shown then; but the ticket is as good as before.
    assert [getattr(reply, "booking", reply) for reply in shown[1:]] == ["a.b", a]
    assert booked(shown[0]).id == a
    for scan, code in (("first", None), ("again", "already_redeemed"), ("first", None)):
        redeem = [Redeem(ticket, scan=scan) for ticket in wanted]
        assert codes((await commit(ledger, *redeem)).replies) == [code] * 3
    never_was = [ticket_id("a", "0" * 12), ticket_id("a.b", a[-12:]), ticket_id("none", a[-12:]), a[-12:]]
    assert codes((await commit(ledger, *map(Redeem, never_was))).replies) == ["ticket_not_found"] * 4
    await ledger.close()


# Many holds


async def test_holds_of_10000_events_expire_in_one_commit(tmp_path: Path) -> None:
    clock = Clock()
    # A commit may take two seconds, and one more. It is a tenth, unless the time grows with events times holds.
    ledger = EmbeddedLedger(tmp_path / "events.db", 2, clock)
    numbers = range(10_000)
    await commit(ledger, *(Create("Jazz", DATE, 5, f"e{number}") for number in numbers))
    for holds, quantity in (("h", 2), ("k", 3)):
        await commit(ledger, *(Hold(f"e{number}", quantity, 60, f"{holds}{number}") for number in numbers))
    clock.move(60)
    committed = await commit(ledger)
    assert (len(committed.events), ledger.next_expiry) == (10_000, None)
    assert all(event.available == 5 for event in await ledger.events())
    shown = read(ledger, *(Show(f"h{number}") for number in numbers))
    assert {getattr(reply, "state", None) for reply in shown} == {"expired"}
    await ledger.close()


# The log, and checkpoints


class AfterMonths(Database):
    """Has written so many pages that their count begins anew soon."""

    def _pages_written(self) -> int:
        return (super()._pages_written() + PAGES_COUNTED_MAX - CHECKPOINT_PAGES) % PAGES_COUNTED_MAX


async def test_checkpoints_go_on_after_the_page_counter_wraps_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "Database", AfterMonths)
    ledger = EmbeddedLedger(tmp_path / "events.db", SECONDS_MAX)
    await commit(ledger, Create("Jazz", DATE, 200_000, "hot"))
    for _ in range(100):
        await commit(ledger, *(Book("hot", 1, new_id()) for _ in range(2_000)))
    assert (tmp_path / "events.db-wal").stat().st_size < 2 * CHECKPOINT_PAGES * PAGE_BYTES
    await ledger.close()


async def test_a_checkpoint_keeps_the_log_short(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    log = tmp_path / "events.db-wal"
    for number in range(121):
        await commit(ledger, *(Create("n" * 200, DATE, 5, f"e{number}-{index}") for index in range(1_000)))
        assert log.stat().st_size < (CHECKPOINT_PAGES + 500) * PAGE_BYTES
    assert len(await ledger.events()) == 121_000
    await ledger.close()
    assert not log.exists()


@pytest.mark.parametrize("limit", [1, 100])
async def test_a_page_that_is_cut_short_leaves_no_checkpoint_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    # Each commit folds the log first: it fails if a statement stands in the way.
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 1)
    ledger = await opened(tmp_path)
    await commit(ledger, JAZZ, *(Book("jazz", 500, f"b{number}") for number in range(5)))
    for number in range(5):
        assert (await page(ledger, limit=limit))[1]
        await commit(ledger, Book("jazz", 1, f"c{number}"))
        assert commits_and_folded(ledger) == (number + 2, number + 1)
    assert (await page(ledger, limit=limit))[1]
    await ledger.close()
    assert not (tmp_path / "events.db-wal").exists()


def commits_and_folded(ledger: EmbeddedLedger) -> tuple[int, int]:
    """Return how many commits there are, and how many the ledger says that the file has without its log."""
    commits, folded = ledger._connection.execute("SELECT commits, folded FROM ledger").get
    return commits, folded


class NoRoom:
    """A disk in memory that has no room for some writes: those to files whose names end so."""

    def __init__(self) -> None:
        self.ends = "nothing"
        self.calls: list[tuple[str, str]] = []
        self.disk = Disk(before=self._before)

    def _before(self, call: Call, content: Content | None) -> None:
        self.calls.append((call.operation, call.file))
        if call.operation == "write" and call.file.endswith(self.ends):
            raise apsw.FullError("no space left on the faulty disk")

    @contextmanager
    def for_files(self, ends: str) -> Iterator[None]:
        self.ends = ends
        try:
            yield
        finally:
            self.ends = "nothing"


FILE, LOG, SEAL = "events.db", "-wal", "-seal"


async def in_file(disk: Disk) -> int:
    """Return how many commits a ledger has that is killed now, without its log."""
    files = {name: content for name, content in disk.after_kill().items() if not name.endswith(LOG)}
    with plugged(Disk(files)):
        connection = apsw.Connection(
            f"file:{IN_MEMORY}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
        count: int = connection.execute("SELECT commits FROM ledger").get
        connection.close()
    return count


async def check_after_kill(disk: Disk, sold: int) -> None:
    """Check that a ledger which is killed now is opened, and has sold so many tickets."""
    with plugged(Disk(disk.after_kill())):
        ledger = EmbeddedLedger(IN_MEMORY, SECONDS_MAX, Clock())
        assert [event.sold for event in await ledger.events()] == [sold]
        await ledger.close()


async def test_a_ledger_row_says_how_many_commits_are_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 1)
    full = NoRoom()
    with plugged(full.disk):
        ledger = EmbeddedLedger(IN_MEMORY, SECONDS_MAX, Clock())
        await commit(ledger, JAZZ)
        assert commits_and_folded(ledger) == (1, 0)
        for number in range(2, 5):
            await commit(ledger, Book("jazz", 1, f"b{number}"))
            assert commits_and_folded(ledger) == (number, number - 1)
            assert await in_file(full.disk) == number - 1
            await check_after_kill(full.disk, number - 1)
        # The file has no room: the log keeps all of it, and says so.
        with full.for_files(FILE):
            for number in range(5, 8):
                await commit(ledger, Book("jazz", 1, f"b{number}"))
                assert commits_and_folded(ledger) == (number, 3)
        await check_after_kill(full.disk, 6)
        await commit(ledger, Book("jazz", 1, "b8"))
        assert commits_and_folded(ledger) == (8, 7)
        assert await in_file(full.disk) == 7
        await check_after_kill(full.disk, 7)
        await ledger.close()
        assert await in_file(full.disk) == 8


async def test_a_log_without_room_is_folded_before_the_next_commit() -> None:
    full = NoRoom()
    with plugged(full.disk):
        ledger = EmbeddedLedger(IN_MEMORY, SECONDS_MAX, Clock())
        await commit(ledger, JAZZ)
        with full.for_files(LOG), pytest.raises(StorageFullError):
            await commit(ledger, Book("jazz", 1, "b"))
        assert commits_and_folded(ledger) == (1, 0)
        await commit(ledger, Book("jazz", 1, "b"))
        assert commits_and_folded(ledger) == (2, 1)
        await commit(ledger, Book("jazz", 1, "c"))
        assert commits_and_folded(ledger) == (3, 1), "it is folded once, not each time"
        await check_after_kill(full.disk, 2)
        await ledger.close()


async def test_a_file_without_room_at_the_end_keeps_its_log() -> None:
    full = NoRoom()
    with plugged(full.disk):
        ledger = EmbeddedLedger(IN_MEMORY, SECONDS_MAX, Clock())
        await commit(ledger, JAZZ, Book("jazz", 1, "b"))
        with full.for_files(FILE):
            await ledger.close()
        assert any(name.endswith(LOG) and content.data for name, content in full.disk.files.items())
        await check_after_kill(full.disk, 1)


async def test_a_checkpoint_that_fails_ends_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 1)
    fails: list[bool] = []

    def before(call: Call, content: Content | None) -> None:
        if fails and call.operation == "sync" and call.file.endswith(FILE):
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)

    disk = Disk(before=before)
    with plugged(disk):
        ledger = EmbeddedLedger(IN_MEMORY, SECONDS_MAX, Clock())
        await commit(ledger, JAZZ)
        await commit(ledger, Book("jazz", 1, "b"))
        fails.append(True)
        with pytest.raises(OutcomeUnknownError, match="checkpoint failed"):
            await commit(ledger, Book("jazz", 1, "c"))
        fails.clear()
        await check_after_kill(disk, 1)
