"""A disk that is full, that fails or that hangs: what the committer answers."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.commits.conftest import Buyer, Opened, ask, asked, code, codes, on_this_disk, read
from tests.daemon import running, write_events
from tests.faketime import Clock
from tests.faults.daemon import Machine
from tests.faults.disk import RealDisk
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.config import Limits
from ticketd.ledger.base import OutcomeUnknownError
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingReply, ErrorReply, Reply
from ticketd.wire.requests import Book, Cancel, Confirm, Create, Hold, Redeem, Show

DATE = datetime(2027, 3, 11, tzinfo=UTC)


@on_this_disk
async def test_a_disk_failure_while_isolating_a_bug_answers_everybody(disk: RealDisk, opened: Opened) -> None:
    async with opened() as committer:
        poison = Redeem(["no id"])  # type: ignore[arg-type]
        requests: list[LedgerRequest] = [Book("hot", 1), poison, Book("hot", 1), Book("quiet", 1)]
        futures = [asked(committer, request) for request in requests]
        disk.sync_fails = True
        answers = [code((await future)[0]) for future in futures]
        assert answers == ["outcome_unknown", "shutting_down", "shutting_down", "shutting_down"]
        disk.sync_fails = False


async def when_there_is_room(committer: Committer, request: LedgerRequest) -> Reply:
    """Ask as often as is said, until the disk is not full any more."""
    async with asyncio.timeout(20):
        while True:
            reply = await ask(committer, request)
            if not (isinstance(reply, ErrorReply) and reply.retry_after):
                return reply
            await asyncio.sleep(reply.retry_after)


@on_this_disk
async def test_a_full_disk_refuses_writes_serves_reads_and_resumes(disk: RealDisk, opened: Opened) -> None:
    async with opened() as committer:
        booked = await ask(committer, Book("hot", 1, "first"))
        disk.full = True
        for _ in range(3):
            refused = await ask(committer, Book("hot", 1, "second"))
            assert isinstance(refused, ErrorReply)
            assert (refused.code, refused.retry_after) == ("storage_full", 1)
        assert await read(committer, Show("first")) == [booked]
        disk.full = False
        second = await when_there_is_room(committer, Book("hot", 1, "second"))
        assert isinstance(second, BookingReply)
        assert (second.version, second.replayed) == (2, False)


async def test_a_full_disk_keeps_holds_until_their_expiry_is_durable(disk: RealDisk, tmp_path: Path) -> None:
    clock = Clock()
    ledger = EmbeddedLedger(tmp_path / "events.db", 30, clock)
    catalogue = Catalogue([])
    committer = Committer(ledger, catalogue, Limits())
    running = asyncio.create_task(committer.run())
    await ask(committer, Create("Jazz", DATE, 5, "jazz"))
    held = await ask(committer, Hold("jazz", 5, 60, "h"))
    disk.full = True
    clock.move(60)
    for _ in range(3):
        assert await read(committer, Show("h")) == [held]
        [event] = await read(committer, Show("jazz"))
        assert getattr(event, "held", None) == 5
        assert code(await ask(committer, Book("jazz", 5, "b"))) == "sold_out"
        assert code(await ask(committer, Confirm("h"))) == "storage_full"
        assert not committer.expiry.is_due(), "nobody waits for what cannot be committed"
    known = catalogue.get("jazz")
    assert known is not None
    assert (known.held, known.version) == (5, 1)
    # A clock that is set back now finds nothing that it could bring back to life.
    clock.move(-30)
    [shown] = await read(committer, Show("h"))
    assert getattr(shown, "state", None) == "held"
    disk.full = False
    clock.move(30)
    assert code(await when_there_is_room(committer, Confirm("h"))) == "hold_expired"
    booked = await ask(committer, Book("jazz", 5, "b"))
    assert isinstance(booked, BookingReply)
    assert booked.version == 3
    committer.close()
    await running
    await ledger.close()


@on_this_disk
async def test_a_full_disk_still_replays_bookings_already_made(disk: RealDisk, opened: Opened) -> None:
    async with opened() as committer:
        first = await ask(committer, Book("hot", 1, "first"))
        disk.full = True
        of_first: list[LedgerRequest] = [Book("hot", 1, "first"), Book("hot", 2, "first"), Cancel("nothing")]
        refused, again, conflict, nothing = await asked(committer, Book("hot", 1, "second"), *of_first)
        assert code(refused) == "storage_full"
        assert isinstance(again, BookingReply)
        assert isinstance(first, BookingReply)
        assert (again.tickets, again.replayed) == (first.tickets, True)
        assert code(conflict) == "booking_conflict"
        assert code(nothing) == "booking_not_found"
        [shown] = await read(committer, Show("hot"))
        assert getattr(shown, "sold", None) == 1
        disk.full = False


@on_this_disk
async def test_a_full_disk_does_not_fail_reads_asked_beside_writes(disk: RealDisk, opened: Opened) -> None:
    async with opened() as committer:
        await ask(committer, Book("hot", 1, "mine"))
        disk.full = True
        writer = asked(committer, Book("hot", 1))
        [shown] = await read(committer, Show("mine"))
        assert codes(await writer) == ["storage_full"]
        assert isinstance(shown, BookingReply)
        disk.full = False


@on_this_disk
async def test_a_failed_sync_is_outcome_unknown_and_ends_the_committer(disk: RealDisk, opened: Opened) -> None:
    async with opened() as committer:
        disk.sync_fails = True
        assert code(await ask(committer, Book("hot", 1))) == "outcome_unknown"
        assert code(await ask(committer, Book("hot", 1))) == "shutting_down"
        assert codes(await read(committer, Show("hot"))) == ["shutting_down"]
        # The daemon would exit here; in this process the abandoned connection is closed some day.
        disk.sync_fails = False


async def test_a_hanging_disk_is_given_up_after_the_deadline(disk: RealDisk, tmp_path: Path) -> None:
    ledger = EmbeddedLedger(tmp_path / "events.db", 0.2)
    committer = Committer(ledger, Catalogue([]), Limits())
    running = asyncio.create_task(committer.run())
    disk.sync_may_end.clear()
    try:
        assert code(await ask(committer, Create("x", DATE, 5))) == "outcome_unknown"
        with pytest.raises(OutcomeUnknownError):
            await running
    finally:
        disk.sync_may_end.set()


@on_this_disk
async def test_bookings_behind_a_hanging_sync_are_told_the_truth(disk: RealDisk, opened: Opened) -> None:
    async with opened(Limits(queue_seconds_max=0.2)) as committer:
        disk.sync_may_end.clear()
        in_commit = asked(committer, Book("hot", 1, "first"))
        await asyncio.sleep(0)
        behind = [asked(committer, Book(event, 1, event)) for event in ("hot", "quiet")]
        for future in behind:
            [refused] = await future
            assert isinstance(refused, ErrorReply)
            assert (refused.code, refused.retry_after) == ("busy", 1)
            assert "nothing was done" in refused.message
        assert not in_commit.done(), "nobody knows yet"
        disk.sync_may_end.set()
        assert isinstance((await in_commit)[0], BookingReply)
        assert codes(await read(committer, Show("first"), Show("b-hot"))) == [None, "not_found"]
        # Whoever was refused may try again.
        assert isinstance(await ask(committer, Book("quiet", 1, "quiet")), BookingReply)


async def test_nobody_waits_for_holds_to_end_while_a_sync_hangs(disk: RealDisk, tmp_path: Path) -> None:
    clock = Clock()
    ledger = EmbeddedLedger(tmp_path / "events.db", 30, clock)
    committer = Committer(ledger, Catalogue([]), Limits())
    running = asyncio.create_task(committer.run())
    await ask(committer, Create("Jazz", DATE, 5, "jazz"))
    await ask(committer, Hold("jazz", 1, 60, "h"))
    disk.sync_may_end.clear()
    booked = asked(committer, Book("jazz", 1))
    await asyncio.sleep(0)
    clock.move(60)
    assert committer.expiry.is_due()
    viewers = [Buyer(f"viewer {number}") for number in range(3)]
    for viewer in viewers:
        committer.expiry.end_for(viewer)
    for viewer in viewers:
        assert list(await viewer.replies) == []
    assert not booked.done()
    assert not committer.expiry.is_due(), "the next one does not even ask"
    disk.sync_may_end.set()
    await booked
    # The hold ends all the same, and is waited for again.
    assert code(await ask(committer, Confirm("h"))) == "hold_expired"
    committer.close()
    await running
    await ledger.close()


def test_a_disk_failure_exits_with_status_6_and_retries_are_safe(tmp_path: Path) -> None:
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


class Asking:
    """Submits a redemption, and asks for the ticket as soon as that is answered, as a pipelining connection does."""

    peer = "asking"
    actor: str | None = None

    def __init__(self, committer: Committer, ticket: str) -> None:
        self._committer = committer
        self._ticket = ticket
        self.codes: list[str | None] = []
        self.ended = asyncio.get_running_loop().create_future()
        committer.submit(self, [Redeem(ticket)], 1)

    def deliver(self, replies: Sequence[Reply]) -> None:
        self.codes += codes(replies)
        if len(self.codes) == 1:
            self._committer.reader.submit(self, [Show(self._ticket)])
        else:
            self.ended.set_result(None)


@on_this_disk
async def test_after_an_unknown_outcome_nothing_uncertain_is_shown(disk: RealDisk, opened: Opened) -> None:
    async with opened() as committer:
        booked = await ask(committer, Book("hot", 1))
        assert isinstance(booked, BookingReply)
        disk.sync_fails = True
        asking = Asking(committer, booked.tickets[0])
        await asking.ended
        # "valid" would be wrong if the redemption is there after the next start.
        assert asking.codes == ["outcome_unknown", "shutting_down"]
        disk.sync_fails = False
