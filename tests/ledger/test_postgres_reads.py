"""What one daemon reads of what others have committed to PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from tests.ledgers import PostgresStorage, read, result_of, transact
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.config import Limits
from ticketd.ledger.base import Answers
from ticketd.ledger.postgres import known
from ticketd.ledger.postgres.ledger import PostgresLedger
from ticketd.ledger.postgres.reads import SHOWN_PER_READ
from ticketd.wire.replies import BookingReply, ErrorReply, Reply, TicketReply
from ticketd.wire.requests import Book, Bookings, Cancel, Confirm, Create, Hold, Redeem, Request, Show

DATE = datetime(2027, 3, 11, tzinfo=UTC)


@pytest.fixture
async def pair(database: str) -> AsyncIterator[list[PostgresLedger]]:
    """Two ledgers on one database, as two daemons have. Neither asks for news."""
    async with AsyncExitStack() as stack:
        ledgers = []
        for _ in range(2):
            ledger = await PostgresStorage(database).open()
            assert isinstance(ledger, PostgresLedger)
            stack.push_async_callback(ledger.close)
            ledgers.append(ledger)
        await transact(ledgers[0], [Create("Jazz", DATE, 100, "jazz")])
        yield ledgers


async def test_what_one_daemon_commits_the_other_reads_at_once(pair: list[PostgresLedger]) -> None:
    for turn in range(20):
        here, there = pair[turn % 2], pair[(turn + 1) % 2]
        [booked] = (await transact(here, [Book("jazz", 2, f"b{turn}")])).replies
        assert isinstance(booked, BookingReply)
        assert await read(there, [Show(booked.id)]) == [booked]
        [redeemed] = (await transact(there, [Redeem(booked.tickets[0])])).replies
        assert await read(here, [Show(booked.tickets[0])]) == [redeemed]
        [again] = (await transact(here, [Redeem(booked.tickets[0])])).replies
        assert isinstance(redeemed, TicketReply)
        assert isinstance(again, ErrorReply)
        assert (again.code, again.redeemed_at) == ("already_redeemed", redeemed.redeemed_at)
        [cancelled] = (await transact(there, [Cancel(booked.id, booked.tickets[1:])])).replies
        [shown] = await read(here, [Show(booked.id)])
        assert isinstance(cancelled, BookingReply)
        assert isinstance(shown, BookingReply)
        assert (shown.version, shown.cancelled, shown.redeemed) == (
            cancelled.version,
            cancelled.cancelled,
            booked.tickets[:1],
        )


async def test_a_hold_made_by_one_daemon_is_confirmed_by_the_other(pair: list[PostgresLedger]) -> None:
    await transact(pair[0], [Hold("jazz", 2, 60, "mine")])
    assert pair[1].held("mine") is None
    confirmed, again = [(await transact(ledger, [Confirm("mine")])).replies[0] for ledger in reversed(pair)]
    assert isinstance(confirmed, BookingReply)
    assert isinstance(again, BookingReply)
    assert (confirmed.version, again.tickets, again.replayed) == (2, confirmed.tickets, True)


@pytest.mark.parametrize("request_", [Show("mine"), Bookings(), Show("jazz")])
async def test_what_is_read_comes_with_its_events(request_: Request, pair: list[PostgresLedger]) -> None:
    await transact(pair[0], [Book("jazz", 2, "mine")])
    answers = await result_of(pair[1].read, [request_])
    assert [(event.id, event.version) for event in answers.events] == [("jazz", 1)]


class Client:
    """Notes what the catalogue has when its replies come."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.peer = "test"
        self.actor: str | None = None
        self._catalogue = catalogue
        self.came: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def deliver(self, replies: Sequence[Reply]) -> None:
        event = self._catalogue.get("jazz")
        self.came.set_result(event.version if event else None)


async def test_the_catalogue_has_an_event_before_a_reply_shows_it(pair: list[PostgresLedger]) -> None:
    catalogue = Catalogue([])
    committer = Committer(pair[1], catalogue, Limits())
    running = asyncio.create_task(committer.run())
    for version in (1, 2):
        await transact(pair[0], [Book("jazz", 1, f"b{version}")])
        client = Client(catalogue)
        committer.reader.submit(client, [Show(f"b{version}")])
        assert await client.came == version
    committer.close()
    await running


async def test_readers_gather_for_one_look_and_are_few_at_once(pair: list[PostgresLedger]) -> None:
    booked = (await transact(pair[0], [Book("jazz", 1, f"b{number}") for number in range(SHOWN_PER_READ)])).replies
    came: asyncio.Queue[Answers | Exception] = asyncio.Queue()
    for number in range(SHOWN_PER_READ):
        assert pair[0].can_read
        pair[0].read([Show(f"b{number}")], came.put_nowait)
    assert not pair[0].can_read
    for number in range(SHOWN_PER_READ):
        answers = await came.get()
        assert isinstance(answers, Answers)
        assert answers.replies == [booked[number]]
        assert pair[0].can_read
    assert came.empty()


async def test_pages_and_shows_of_many_clients_are_all_answered(pair: list[PostgresLedger]) -> None:
    await transact(pair[0], [Book("jazz", 1, f"b{number}") for number in range(10)])
    asked: list[Request] = [Show("b1"), Bookings(limit=1), Bookings("b1"), Show("b2"), Show("b3"), Bookings("b9")]
    answers = await asyncio.gather(*(result_of(pair[0].read, [request]) for request in asked * 5))
    kinds = [type(answer.replies[0]).__name__ for answer in answers]
    assert kinds == [{Show: "BookingReply", Bookings: "BookingsReply"}[type(request)] for request in asked * 5]


async def test_a_bug_while_reading_is_told_once(pair: list[PostgresLedger]) -> None:
    with pytest.raises(KeyError):
        await result_of(pair[0].read, [None])
    assert pair[0].can_read


async def test_the_memory_of_holds_is_bounded(pair: list[PostgresLedger], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "HOLDS_MAX", 3)
    await transact(pair[0], [Hold("jazz", 1, 60, f"h{number}") for number in range(5)])
    assert [pair[0].held(f"h{number}") for number in range(5)] == [None, None, *[("jazz", 1)] * 3]
