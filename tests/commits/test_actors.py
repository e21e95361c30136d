"""Names of clients: each request that waits in a batch keeps that of its own client, and the log tells it."""

import asyncio

import pytest

from tests.commits.conftest import Opened, asked, read
from ticketd.commits.clients import InternalClient
from ticketd.wire.replies import BookingReply
from ticketd.wire.requests import Book, Confirm, Hold, Show


async def test_requests_of_many_clients_in_one_commit_keep_their_names(opened: Opened) -> None:
    async with opened() as committer:
        before = committer.activity.counts.commits
        answers = [
            asked(committer, Book("hot", 1, "a"), Book("hot", 1, "b"), actor="box-1"),
            asked(committer, Book("hot", 1, "c")),
            asked(committer, actor="nobody"),
            asked(committer, Hold("hot", 1, 60, "d"), Confirm("d"), Book("hot", 1, "e"), actor="box-2"),
        ]
        await asyncio.gather(*answers)
        assert committer.activity.counts.commits == before + 1
        shown = await read(committer, *(Show(id_) for id_ in "abcde"))
        assert [reply.by for reply in shown if isinstance(reply, BookingReply)] == [
            "box-1", "box-1", None, "box-2", "box-2",
        ]  # fmt: skip
        confirmed = shown[3]
        assert isinstance(confirmed, BookingReply)
        assert [change.by for change in confirmed.changes] == ["box-2"]


async def test_what_was_submitted_keeps_the_name_of_who_submitted_it(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ticketd.commits.activity")
    async with opened() as committer:
        client = InternalClient("here")
        client.actor = "box-1"
        committer.submit(client, [Book("hot", 1, "a")], 1)
        # The token is taken back, or another one is sent, before the commit begins.
        client.actor = None
        await client.replies
        [shown] = await read(committer, Show("a"))
    assert isinstance(shown, BookingReply)
    assert shown.by == "box-1"
    [line] = [line for line in caplog.messages if line.startswith("booked ")]
    assert line.endswith(" peer=here by=box-1")


async def test_log_lines_name_who_did_it(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ticketd.commits.activity")
    async with opened() as committer:
        await asked(committer, Book("hot", 1, "a"), peer="here", actor="box-1")
        await asked(committer, Book("hot", 1, "b"), peer="there")
    [named, unnamed] = [line for line in map(str, caplog.messages) if line.startswith("booked ")]
    assert named.endswith(" peer=here by=box-1")
    assert unnamed.endswith(" peer=there")
