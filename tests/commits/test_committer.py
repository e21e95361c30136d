"""Queues, quotas and group commit: the committer over real ledgers."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import uvloop

from tests.commits.conftest import Buyer, Opened, ask, asked, code, codes, on_this_disk, read
from tests.faketime import Clock
from tests.faults.disk import RealDisk
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.config import Limits
from ticketd.ledger.base import Answers, Done, LedgerUnavailableError
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingReply, EventReply, TicketReply
from ticketd.wire.requests import Book, Confirm, Create, Hold, Redeem, Show

DATE = datetime(2027, 3, 11, tzinfo=UTC)


async def test_10000_buyers_of_one_event_delay_another_by_one_commit(opened: Opened) -> None:
    async with opened(Limits(rows_per_event_max=200)) as committer:
        hot = [asked(committer, Book("hot", 1)) for _ in range(10_000)]
        [quiet] = await asked(committer, Book("quiet", 1))
        assert isinstance(quiet, BookingReply)
        assert sum(future.done() for future in hot) == 200
        assert committer.activity.counts.commits == 2 + 1
        replies = [(await future)[0] for future in hot]
    # First come, first served: in the order in which they were submitted.
    assert [reply.version for reply in replies if isinstance(reply, BookingReply)] == list(range(1, 10_001))


async def test_1000_confirms_of_one_event_delay_another_by_one_commit(opened: Opened) -> None:
    async with opened() as committer:
        holds = [Hold("hot", 1, 60, f"h{number}") for number in range(1_000)]
        await asyncio.gather(*(asked(committer, hold) for hold in holds))
        await ask(committer, Hold("quiet", 1, 60, "mine"))
        before = committer.activity.counts.commits
        confirms = [asked(committer, Confirm(str(hold.booking)), peer=f"peer {hold.booking}") for hold in holds]
        await ask(committer, Confirm("mine"))
        assert committer.activity.counts.commits == before + 1
        await confirms[-1]


@on_this_disk
async def test_each_queue_gets_its_fair_share_of_full_commits(opened: Opened) -> None:
    async with opened(Limits(rows_per_event_max=20, rows_per_commit_max=20)) as committer:
        first = [asked(committer, Book("hot", 1)) for _ in range(100)]
        second = [asked(committer, Book("quiet", 1)) for _ in range(20)]
        await second[-1]
        assert sum(future.done() for future in first) == 20
        await first[-1]


async def test_a_mixed_submission_cannot_jump_a_longer_queue(opened: Opened) -> None:
    async with opened(Limits(rows_per_event_max=8)) as committer:
        honest = [asked(committer, Book("hot", 1)) for _ in range(40)]
        for detour in (Confirm("nothing"), Book("quiet", 1)):
            sly = (await asked(committer, detour, Book("hot", 1), peer="sly"))[1]
            assert isinstance(sly, BookingReply)
            assert sly.version > 40
        assert all(future.done() for future in honest)


async def test_a_commit_has_a_bounded_number_of_tickets(opened: Opened) -> None:
    async with opened() as committer:
        bookings = [asked(committer, Book("hot", 1_000), rows=1_000) for _ in range(20)]
        await bookings[0]
        assert not bookings[2].done()
        await bookings[-1]


@on_this_disk
async def test_a_large_booking_that_does_not_fit_is_first_next_time(opened: Opened) -> None:
    async with opened(Limits(rows_per_event_max=8, rows_per_commit_max=12)) as committer:
        for number in range(3):
            await ask(committer, Create("x", DATE, 100_000, f"e{number}"))
        crowd = [asked(committer, Book("e0", 1)) for _ in range(40)]
        large = asked(committer, Book("e1", 9))
        small = [asked(committer, Book("e2", 1)) for _ in range(40)]
        await large
        # The crowd had its share of two commits at the most, and nobody else went before.
        assert sum(future.done() for future in crowd) <= 16
        assert sum(future.done() for future in small) <= 3
        await asyncio.gather(*crowd, *small)


@on_this_disk
async def test_requests_that_wait_during_a_commit_share_the_next_one(opened: Opened, disk: RealDisk) -> None:
    async with opened() as committer:
        disk.sync_may_end.clear()
        first = asked(committer, Book("hot", 1))
        await asyncio.sleep(0)
        others = [asked(committer, Book("hot", 1)) for _ in range(500)]
        disk.sync_may_end.set()
        await asyncio.gather(first, *others)
        assert committer.activity.counts.commits == 2 + 2


async def test_an_idle_committer_commits_a_whole_crowd_at_once(opened: Opened) -> None:
    async with opened() as committer:
        await asyncio.gather(*(asked(committer, Book("hot", 1)) for _ in range(500)))
        assert committer.activity.counts.commits == 2 + 1


async def test_a_batch_of_refusals_costs_no_commit(opened: Opened) -> None:
    async with opened() as committer:
        replies = await asked(committer, Book("nowhere", 1), Confirm("nothing"), Book("hot", 1_000_000))
        assert codes(replies) == ["event_not_found", "booking_not_found", "sold_out"]
        assert committer.activity.counts.commits == 2


async def test_a_request_that_waits_too_long_is_busy_and_not_done(opened: Opened) -> None:
    async with opened(Limits(queue_seconds_max=1e-9)) as committer:
        assert code(await ask(committer, Book("hot", 1))) == "busy"
        assert committer.activity.counts.bookings == 0


async def test_a_closed_committer_answers_its_queue_and_takes_no_more(opened: Opened) -> None:
    async with opened() as committer:
        before = asked(committer, Book("hot", 1))
        committer.close()
        after = asked(committer, Book("hot", 1))
        assert not after.done(), "nobody is answered while it still asks"
        assert isinstance((await before)[0], BookingReply)
        assert codes(await after) == ["shutting_down"]
        await committer.expiry.end()


async def test_a_request_that_hits_a_bug_spoils_no_other_request(opened: Opened) -> None:
    async with opened() as committer:
        poison = Redeem(["no id"])  # type: ignore[arg-type]
        futures = [asked(committer, request) for request in (Book("hot", 1), poison, Book("hot", 1))]
        replies = [(await future)[0] for future in futures]
        assert codes(replies) == [None, "internal", None]
        assert [reply.version for reply in replies if isinstance(reply, BookingReply)] == [1, 2]


async def test_a_client_may_submit_again_while_it_is_answered(opened: Opened) -> None:
    async with opened() as committer:

        class Eager(Buyer):
            def deliver(self, replies: object) -> None:
                self.left -= 1
                if self.left:
                    committer.submit(self, [Book("hot", 1)], 1)
                else:
                    self.replies.set_result([])

            left = 20

        crowd = [Eager(f"peer {number}") for number in range(20)]
        for eager in crowd:
            committer.submit(eager, [Book("hot", 1)], 1)
        await asyncio.gather(*(eager.replies for eager in crowd))
        assert committer.activity.counts.bookings == 400


# A ledger that is away


class AwayLedger(EmbeddedLedger):
    """Cannot be reached for the first few times."""

    tries = 0
    away = 3

    def transact(
        self, requests: list[LedgerRequest], done: Done, actors: Sequence[str | None] | None = None
    ) -> Answers | None:
        self.tries += 1
        if self.tries <= self.away:
            raise LedgerUnavailableError("away")
        return super().transact(requests, done, actors)


async def test_with_the_ledger_away_writes_wait_and_expiry_does_not(tmp_path: Path) -> None:
    ledger = AwayLedger(tmp_path / "events.db", 30)
    committer = Committer(ledger, Catalogue([]), Limits())
    viewer = Buyer("viewer")
    committer.expiry.end_for(viewer)
    created = asked(committer, Create("Jazz", DATE, 5, "jazz"))
    running = asyncio.create_task(committer.run())
    assert isinstance((await created)[0], EventReply)
    assert ledger.tries == 4
    assert await viewer.replies == []
    committer.close()
    await running
    await ledger.close()


def test_whoever_waits_for_a_ledger_away_is_never_forgotten(tmp_path: Path) -> None:
    # The timers of uvloop have whole milliseconds: they may be early.
    async def wait() -> None:
        ledger = AwayLedger(tmp_path / "events.db", 30)
        ledger.away = 20
        committer = Committer(ledger, Catalogue([]), Limits(queue_seconds_max=60))
        running = asyncio.create_task(committer.run())
        created = asked(committer, Create("Jazz", DATE, 5, "jazz"))
        async with asyncio.timeout(30):
            assert isinstance((await created)[0], EventReply)
        committer.close()
        await running
        await ledger.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(wait())


async def test_a_closed_committer_ends_although_the_ledger_is_away(tmp_path: Path) -> None:
    clock = Clock()
    ledger = AwayLedger(tmp_path / "events.db", 30, clock)
    ledger.away = 0
    committer = Committer(ledger, Catalogue([]), Limits(queue_seconds_max=0.65))
    running = asyncio.create_task(committer.run())
    await ask(committer, Create("Jazz", DATE, 5, "jazz"))
    await ask(committer, Hold("jazz", 1, 1, "h"))
    ledger.away = 1_000
    # What has run out makes the committer look often whether anybody is late: between two tries.
    clock.move(1)
    late = asked(committer, Book("jazz", 1))
    committer.close()
    assert codes(await late) == ["busy"]
    async with asyncio.timeout(20):
        await running
    await ledger.close()


async def test_a_reopened_ledger_has_everything_that_was_written(opened: Opened) -> None:
    async with opened() as committer:
        booked = await ask(committer, Book("hot", 3, "mine"))
        assert isinstance(booked, BookingReply)
    async with opened() as committer:
        replayed = await ask(committer, Book("hot", 3, "mine"))
        assert isinstance(replayed, BookingReply)
        assert (replayed.tickets, replayed.replayed) == (booked.tickets, True)
        ticket, event, nothing = await read(committer, Show(booked.tickets[2]), Show("hot"), Show("nothing"))
        assert isinstance(ticket, TicketReply)
        assert (ticket.booking, ticket.state) == ("mine", "valid")
        assert isinstance(event, EventReply)
        assert (event.sold, event.version) == (3, 1)
        assert code(nothing) == "not_found"


# What is logged


@pytest.mark.parametrize("buyers", [10, 500])
async def test_the_log_tells_of_every_booking_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, buyers: int
) -> None:
    caplog.set_level("INFO", "ticketd.commits.activity")
    ledger = EmbeddedLedger(tmp_path / "events.db", 30)
    committer = Committer(ledger, Catalogue([]), Limits())
    running = asyncio.create_task(committer.run())
    await ask(committer, Create("Jazz", DATE, 10_000, "jazz"))
    await asyncio.gather(*(asked(committer, Book("jazz", 2)) for _ in range(buyers)))
    committer.close()
    await running
    await ledger.close()
    lines = [line for record in caplog.records for line in record.getMessage().split("\n")]
    alone = sum(line.startswith("booked ") for line in lines)
    together = sum(int(line.partition("bookings=")[2].split()[0]) for line in lines if line.startswith("committed "))
    assert alone + together == buyers
    assert len(lines) <= 52
