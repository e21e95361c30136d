"""Rounds of the watchers of bookings, on transports that are lists and a real ledger: what is read, and when."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from msgspec import UNSET

from tests.serving.conftest import until
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.config import Limits
from ticketd.ledger.base import ROWS_PER_SLICE
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.rules.working_set import LedgerRequest, ReadWatched
from ticketd.serving import booking_watchers
from ticketd.serving.booking_watchers import BookingWatcher, BookingWatchers
from ticketd.serving.fair_share import FairShare
from ticketd.serving.watcher import WATCH_BYTES
from ticketd.wire.replies import BookingRecord, BookingReply, BookingsReply
from ticketd.wire.requests import Book, Confirm, Create, Hold, Release, Request, Wait

DATE = datetime(2027, 3, 11, tzinfo=UTC)
WATCHERS = 10_000
FREED = 500


class CountingLedger(EmbeddedLedger):
    """Knows which bookings were read for watchers, slice by slice."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, 30)
        self.slices: list[list[str]] = []

    def read(self, requests: Sequence[LedgerRequest], done: Callable[[Any], None]) -> Any:
        answers = super().read(requests, done)
        assert answers
        done_with = requests[: len(answers.replies)]
        self.slices.append([id for each in done_with if isinstance(each, ReadWatched) for id in each.bookings])
        assert answers.rows <= 2 * ROWS_PER_SLICE
        return answers


class Sent:
    """A transport that keeps what was written as lines. ``unsent`` is how much of it the other side has not taken."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.unsent = 0
        self.is_taken = True

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def write(self, data: bytes) -> None:
        self.unsent += 0 if self.is_taken else len(data)
        self.lines += map(msgspec.json.decode, data.splitlines())

    def stages(self) -> list[tuple[str, int | None]]:
        return [(line["state"], line.get("position")) for line in self.lines]


class Shop:
    """A ledger with its watchers, and a buyer who asks one thing after the other."""

    def __init__(self, ledger: CountingLedger) -> None:
        self.ledger = ledger
        self.catalogue = Catalogue([])
        self.committer = Committer(ledger, self.catalogue, Limits())
        self.watchers = BookingWatchers(self.catalogue, self.committer.reader, FairShare())

    async def ask(self, *requests: Request) -> list[Any]:
        return [*await self.committer.ask(requests, "test")]

    def watch(self, shown: BookingReply, **more: Any) -> tuple[BookingWatcher, Sent]:
        sent = Sent()
        options: dict[str, Any] = {"write_seconds_max": 10, "cut_off": print, **more}
        watcher = BookingWatcher(shown, lambda: True, UNSET, cast(asyncio.Transport, sent), **options)
        self.watchers.add(watcher)
        return watcher, sent

    async def round(self) -> None:
        """Let the next round be now, and wait for its end."""
        self.watchers._ended_at = -math.inf
        if self.watchers._timer:
            self.watchers._timer.cancel()
            self.watchers._timer = None
        self.watchers._schedule()
        await until(lambda: self.watchers._in_round, seconds=0)
        await until(lambda: not self.watchers._in_round, seconds=0)


@asynccontextmanager
async def shop(folder: Path, monkeypatch: pytest.MonkeyPatch, tickets: int = 2) -> AsyncIterator[Shop]:
    """A shop with these tickets of the event "jazz", all of them held, one booking each; rounds come when asked for."""
    ledger = CountingLedger(folder / "events.db")
    monkeypatch.setattr(booking_watchers, "INTERVAL_SECONDS", 3_600)
    opened = Shop(ledger)
    committing = asyncio.create_task(opened.committer.run())
    await opened.ask(Create("Jazz", DATE, tickets, "jazz"), Create("Rock", DATE, 1_000, "rock"))
    await opened.ask(*(Hold("jazz", 1, booking=f"h{number}") for number in range(tickets)))
    yield opened
    opened.committer.close()
    await committing
    await ledger.close()


async def test_10000_watchers_read_nothing_while_tickets_are_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop(tmp_path, monkeypatch, FREED) as opened:
        waiting = await opened.ask(*(Wait("jazz", 1, booking=f"w{place}") for place in range(1, WATCHERS + 1)))
        watching = [opened.watch(shown)[1] for shown in waiting]
        await opened.round()
        slices = opened.ledger.slices
        assert not any(sent.lines for sent in watching)
        slices.clear()
        # However often tickets are freed, and others buy: what is read is read once a second.
        for number in range(FREED):
            freed, bought = await asyncio.gather(opened.ask(Release(f"h{number}")), opened.ask(Book("rock", 1)))
            assert [freed[0].state, bought[0].state] == ["released", "confirmed"]
        assert not slices
        # While it is read, each buyer waits for no more than the slice that is being read, and the next one.
        reading = asyncio.create_task(opened.round())
        while not reading.done():
            before = len(slices)
            await opened.ask(Book("rock", 1))
            assert len(slices) - before <= 2
        assert sorted(id for each in slices for id in each) == sorted(shown.id for shown in waiting)
        assert len(slices) <= math.ceil(WATCHERS / ROWS_PER_SLICE)
        for place, sent in enumerate(watching, 1):
            assert sent.stages() == [("held", None) if place <= FREED else ("waiting", place - FREED)]


async def test_only_bookings_of_changed_events_are_read_until_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop(tmp_path, monkeypatch) as opened:
        [jazz, rock] = await opened.ask(Wait("jazz", 1, booking="j"), Hold("rock", 1, booking="r"))
        (_, of_jazz), (_, of_rock) = opened.watch(jazz), opened.watch(rock)
        await opened.round()
        assert opened.ledger.slices.pop() in (["j", "r"], ["r", "j"])
        await opened.ask(Release("h0"))
        await opened.round()
        assert opened.ledger.slices.pop() == ["j"]
        await opened.ask(Release("j"), Hold("rock", 1))
        await opened.round()
        assert sorted(opened.ledger.slices.pop()) == ["j", "r"]
        await opened.ask(Release("h1"))
        assert opened.watchers._timer is None
        assert of_jazz.stages() == [("held", None), ("released", None)]
        assert of_rock.stages() == []
        assert len(opened.watchers) == 2


async def test_a_slice_has_room_for_the_tickets_of_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop(tmp_path, monkeypatch) as opened:
        held = await opened.ask(*(Hold("rock", 100, booking=f"r{number}") for number in range(9)))
        sent = [opened.watch(shown)[1] for shown in held]
        await opened.ask(*(Confirm(shown.id) for shown in held))
        await opened.round()
        # Each may have been confirmed by now, and so it was.
        assert [len(each) for each in opened.ledger.slices] == [3, 3, 3]
        assert [len(each.lines[0]["tickets"]) for each in sent] == [100] * 9


async def test_one_that_falls_behind_gets_only_the_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop(tmp_path, monkeypatch) as opened:
        first, _, third = await opened.ask(*(Wait("jazz", 1, booking=f"w{place}") for place in (1, 2, 3)))
        (_, quick), (_, slow) = opened.watch(first), opened.watch(third)
        await opened.round()
        slow.unsent = WATCH_BYTES + 1
        await opened.ask(Release("w2"))
        await opened.round()
        await opened.ask(Release("h0"))
        await opened.round()
        # Nothing is read that cannot be sent.
        assert [id for each in opened.ledger.slices[-2:] for id in each] == ["w1", "w1"]
        assert (quick.stages(), slow.stages()) == ([("held", None)], [])
        slow.unsent = 0
        await opened.round()
        assert slow.stages() == [("waiting", 1)]


async def test_one_that_takes_nothing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booking_watchers, "HEARTBEAT_SECONDS", 0.01)
    async with shop(tmp_path, monkeypatch) as opened:
        [held] = await opened.ask(Hold("rock", 1, booking="r"))
        cut: list[int] = []
        _, reads = opened.watch(held)
        deaf, takes_nothing = opened.watch(held, write_seconds_max=0, cut_off=cut.append)
        takes_nothing.is_taken = False
        await until(lambda: cut)
        assert cut[0] == takes_nothing.unsent > 0
        # The other one is told that the daemon is there.
        await until(lambda: len(reads.lines) > 2)
        assert reads.lines[0] == {"reply": "pong", "heartbeat": True}
        opened.watchers.remove(deaf)
        assert len(opened.watchers) == 1


async def test_what_was_read_earlier_is_not_sent_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop(tmp_path, monkeypatch) as opened:
        shown = BookingReply("w", "jazz", 1, "waiting", [], 0, 5, DATE, position=3)
        _, sent = opened.watch(shown)

        def read(state: Any, version: int, position: int | None) -> BookingRecord:
            return BookingRecord("w", "jazz", 1, state, [], 0, version, DATE, position=position)

        # Reads may overtake one another, where many are under way at once.
        news = [
            read("waiting", 5, 4),
            read("waiting", 5, 3),
            read("waiting", 5, None),
            read("waiting", 5, 2),
            read("held", 9, None),
            read("waiting", 5, 1),
            read("confirmed", 12, None),
            read("held", 9, None),
        ]
        for record in news:
            opened.watchers.deliver([BookingsReply([record])])
            await until(lambda: not opened.watchers._unsent, seconds=0)
        assert sent.stages() == [("waiting", 2), ("held", None), ("confirmed", None)]


async def test_what_could_not_be_read_is_read_in_the_next_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop(tmp_path, monkeypatch) as opened:
        [waits] = await opened.ask(Wait("jazz", 1, booking="w"))
        _, sent = opened.watch(waits)
        await opened.round()
        await opened.ask(Release("h0"))
        monkeypatch.setattr(CountingLedger, "can_read", False)
        reading = asyncio.create_task(opened.round())
        await until(lambda: len(opened.committer.reader), seconds=0)
        opened.committer.reader.refuse_late(math.inf)
        await reading
        assert sent.lines == []
        monkeypatch.setattr(CountingLedger, "can_read", True)
        await opened.round()
        assert sent.stages() == [("held", None)]
