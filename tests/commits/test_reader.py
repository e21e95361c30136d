"""What only reads: in slices, in turns, between commits. No timing: slices and commits are counted."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.commits.conftest import Opened, Visitor, ask, asked, codes, on_this_disk, read
from tests.faults.disk import RealDisk
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.config import Limits
from ticketd.ledger.base import ROWS_PER_SLICE, LedgerFailedError
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingReply, BookingsReply, Reply
from ticketd.wire.requests import Book, Bookings, Create, Show

DATE = datetime(2027, 3, 11, tzinfo=UTC)


def rows(replies: Sequence[Reply]) -> int:
    return sum(1 + len(reply.tickets) for reply in replies if isinstance(reply, BookingReply))


async def book(committer: Committer, bookings: int, quantity: int) -> list[Show]:
    """Make bookings, and return what shows them."""
    await asyncio.gather(*(asked(committer, Book("hot", quantity, f"b{number}")) for number in range(bookings)))
    return [Show(f"b{number}") for number in range(bookings)]


@on_this_disk
async def test_a_slice_has_a_bounded_number_of_rows(opened: Opened) -> None:
    async with opened() as committer:
        shows = await book(committer, 20, 100)
        visitor = Visitor(committer.reader, shows)
        replies = await visitor.replies
        assert [getattr(reply, "id", None) for reply in replies] == [show.id for show in shows]
        assert len(visitor.slices) > 1
        for slice_ in visitor.slices:
            assert rows(slice_[:-1]) < ROWS_PER_SLICE


async def test_a_booking_larger_than_a_slice_is_shown_all_the_same(opened: Opened) -> None:
    async with opened() as committer:
        shows = await book(committer, 3, 1_000)
        assert rows(await read(committer, *shows)) == 3_003


@on_this_disk
async def test_whoever_asks_for_much_takes_turns_with_the_others(opened: Opened) -> None:
    async with opened() as committer:
        shows = await book(committer, 20, 100)
        greedy = Visitor(committer.reader, shows)
        modest = [Visitor(committer.reader, [Show("b0")]) for _ in range(2)]
        for visitor in modest:
            await visitor.replies
        assert len(greedy.slices) <= 2
        await greedy.replies


@on_this_disk
async def test_tickets_of_large_bookings_are_read_in_slices_too(opened: Opened) -> None:
    async with opened() as committer:
        await book(committer, 1, 1_000)
        [shown] = await read(committer, Show("b0"))
        assert isinstance(shown, BookingReply)
        ticket = shown.tickets[0]
        crowd = [Visitor(committer.reader, [Show(ticket)]) for _ in range(100)]
        await crowd[0].replies
        # The first slice has ended: each of them loads a thousand tickets.
        assert sum(visitor.replies.done() for visitor in crowd) <= 16
        await asyncio.gather(*(visitor.replies for visitor in crowd))


class Shopper:
    """Books one ticket after the other, as a connection would, while visitors read. Counts slices between commits."""

    peer = "shopper"
    actor: str | None = None

    def __init__(self, committer: Committer, visitors: list[Visitor]) -> None:
        self._committer = committer
        self._visitors = visitors
        self.slices = [0]
        self.ended = asyncio.get_running_loop().create_future()
        self._book()

    def deliver(self, replies: Sequence[Reply]) -> None:
        assert codes(replies) == [None]
        self.slices.append(sum(len(visitor.slices) for visitor in self._visitors))
        if all(visitor.replies.done() for visitor in self._visitors):
            self.ended.set_result(None)
        else:
            self._book()

    def _book(self) -> None:
        self._committer.submit(self, [Book("quiet", 1)], 1)


@on_this_disk
async def test_reading_everything_delays_a_buyer_by_a_slice(opened: Opened) -> None:
    async with opened() as committer:
        shows = await book(committer, 60, 100)
        shopper = Shopper(committer, [Visitor(committer.reader, shows) for _ in range(2)])
        await shopper.ended
        # When a commit is done, before anybody has asked for the next.
        assert max(after - before for before, after in pairwise(shopper.slices[1:])) <= 1
        assert shopper.slices[-1] >= 40


@on_this_disk
async def test_commits_that_never_pause_do_not_starve_readers(opened: Opened) -> None:
    async with opened() as committer:
        shows = await book(committer, 20, 100)
        before = committer.activity.counts.commits
        crowd = [asked(committer, Book("quiet", 1_000), rows=1_000) for _ in range(40)]
        visitor = Visitor(committer.reader, shows)
        await visitor.replies
        # One slice after each commit.
        assert committer.activity.counts.commits - before <= len(visitor.slices) + 1
        assert not crowd[-1].done()
        await asyncio.gather(*crowd)


@on_this_disk
async def test_what_is_asked_during_a_commit_shows_what_it_did(opened: Opened, disk: RealDisk) -> None:
    async with opened() as committer:
        await ask(committer, Book("hot", 1, "before"))
        disk.sync_may_end.clear()
        booked = asked(committer, Book("hot", 2, "mine"))
        await asyncio.sleep(0)
        visitor = Visitor(committer.reader, [Show("mine"), Show("before")])
        await asyncio.sleep(0)
        assert not visitor.slices
        assert len(committer.reader) == 1
        disk.sync_may_end.set()
        mine, before = await visitor.replies
        assert mine == (await booked)[0]
        assert isinstance(before, BookingReply)


async def test_readers_read_what_they_wrote(opened: Opened) -> None:
    async with opened() as committer:
        for number in range(20):
            [booked] = await asked(committer, Book("hot", 1, f"b{number:02d}"))
            shown, page = await read(committer, Show(f"b{number:02d}"), Bookings(limit=100))
            assert shown == booked
            assert isinstance(page, BookingsReply)
            assert [booking.id for booking in page.bookings] == [f"b{n:02d}" for n in range(number + 1)]


async def test_a_bug_in_reading_spoils_no_other_request(opened: Opened) -> None:
    async with opened() as committer:
        await book(committer, 1, 1)
        poison = Show(["no id"])  # type: ignore[arg-type]
        visitor = Visitor(committer.reader, [Show("b0"), Show("nothing"), poison, Show("b0")])
        other = Visitor(committer.reader, [Show("b0")])
        assert codes(await visitor.replies) == [None, "not_found", "internal", None]
        assert codes(await other.replies) == [None]


@on_this_disk
async def test_a_closed_reader_refuses_everything(opened: Opened, disk: RealDisk) -> None:
    async with opened() as committer:
        shows = await book(committer, 3, 1)
        disk.sync_may_end.clear()
        booked = asked(committer, Book("hot", 1))
        await asyncio.sleep(0)
        waiting = Visitor(committer.reader, shows)
        committer.reader.close()
        later = Visitor(committer.reader, shows)
        assert not later.slices, "nobody is answered while it still asks"
        disk.sync_may_end.set()
        assert codes(await waiting.replies) == codes(await later.replies) == ["shutting_down"] * 3
        assert codes(await booked) == [None]


async def test_when_the_committer_ends_no_reader_is_left_waiting(opened: Opened) -> None:
    async with opened() as committer:
        shows = await book(committer, 20, 100)
        visitors = [Visitor(committer.reader, shows) for _ in range(5)]
        committer.close()
        for visitor in visitors:
            assert set(codes(await visitor.replies)) <= {None, "shutting_down"}


class FailingLedger(EmbeddedLedger):
    """Cannot be read."""

    reads = 0

    def read(self, requests: Sequence[LedgerRequest], done: Callable[[Any], None]) -> Any:
        self.reads += 1
        raise LedgerFailedError("the ledger cannot be read")


async def test_a_ledger_that_cannot_be_read_ends_the_committer(tmp_path: Path) -> None:
    ledger = FailingLedger(tmp_path / "events.db", 30)
    committer = Committer(ledger, Catalogue([]), Limits())
    running = asyncio.create_task(committer.run())
    await ask(committer, Create("Jazz", DATE, 5, "jazz"))
    visitors = [Visitor(committer.reader, [Show("a"), Show("b")]) for _ in range(3)]
    for visitor in visitors:
        assert codes(await visitor.replies) == ["shutting_down", "shutting_down"]
    assert ledger.reads == 1, "it is not trusted any more"
    with pytest.raises(LedgerFailedError):
        await running
    await ledger.close()


@on_this_disk
async def test_pages_without_bookings_fill_a_slice_too(opened: Opened) -> None:
    async with opened() as committer:
        pages = [Bookings(after="zzz")] * 64
        crowd = [Visitor(committer.reader, pages) for _ in range(20)]
        await crowd[0].replies
        # The first slice has ended.
        assert sum(visitor.replies.done() for visitor in crowd) * len(pages) <= ROWS_PER_SLICE
        await asyncio.gather(*(visitor.replies for visitor in crowd))
