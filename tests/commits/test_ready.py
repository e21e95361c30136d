"""What ``ready`` is told of a disk that is full, hangs or fails."""

import pytest

from tests.commits.conftest import Opened, ask, asked, code, on_this_disk
from tests.faults.disk import RealDisk
from tests.serving.conftest import until
from ticketd.commits import health
from ticketd.commits.committer import Committer
from ticketd.config import Limits
from ticketd.wire.replies import BookingReply, ErrorReply, ReadyReply
from ticketd.wire.requests import Book


async def until_ready(committer: Committer) -> None:
    await until(lambda: committer.ready() == ReadyReply())


async def until_not_ready(committer: Committer) -> ErrorReply:
    await until(lambda: committer.ready() != ReadyReply())
    reply = committer.ready()
    assert isinstance(reply, ErrorReply)
    return reply


async def test_a_daemon_that_commits_is_ready(opened: Opened) -> None:
    async with opened() as committer:
        assert committer.ready() == ReadyReply()
        assert code(await ask(committer, Book("hot", 1))) is None
        assert committer.ready() == ReadyReply()


@on_this_disk
async def test_a_daemon_is_not_ready_while_its_disk_is_full(disk: RealDisk, opened: Opened) -> None:
    async with opened() as committer:
        disk.full = True
        assert code(await ask(committer, Book("hot", 1))) == "storage_full"
        refused = committer.ready()
        assert isinstance(refused, ErrorReply)
        assert (refused.code, refused.retry_after) == ("storage_full", 1)
        # Now a commit may be tried, and it fails.
        await until_ready(committer)
        assert code(await ask(committer, Book("hot", 1))) == "storage_full"
        assert code(committer.ready()) == "storage_full"
        disk.full = False
        await until_ready(committer)
        assert code(await ask(committer, Book("hot", 1))) is None
        assert committer.ready() == ReadyReply()


@on_this_disk
async def test_a_daemon_is_not_ready_while_a_sync_hangs(
    disk: RealDisk, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "ANSWER_SECONDS_MAX", 0.05)
    async with opened(Limits(queue_seconds_max=0.2)) as committer:
        disk.sync_may_end.clear()
        hanging = asked(committer, Book("hot", 1))
        refused = await until_not_ready(committer)
        assert (refused.code, refused.retry_after) == ("busy", 1)
        assert "has not answered a commit for 0.05 s" in refused.message
        [behind] = await asked(committer, Book("hot", 1))
        assert isinstance(behind, ErrorReply)
        assert behind.message == "commits wait for an answer of the ledger; nothing was done, try again"
        disk.sync_may_end.set()
        assert isinstance((await hanging)[0], BookingReply)
        assert committer.ready() == ReadyReply()


@on_this_disk
async def test_a_daemon_whose_ledger_failed_is_not_ready(disk: RealDisk, opened: Opened) -> None:
    async with opened() as committer:
        disk.sync_fails = True
        assert code(await ask(committer, Book("hot", 1))) == "outcome_unknown"
        assert code(committer.ready()) == "shutting_down"
        disk.sync_fails = False
