"""A crowd whose events are not known, such as at the doors, and somebody who wants something of a quiet event."""

from collections.abc import Sequence

from tests.commits.conftest import Opened, asked, codes
from ticketd.commits.queues import Queues, Submission
from ticketd.config import Limits
from ticketd.rules.costs import ROWS_OF_A_BOOKING, ROWS_OF_A_CANCELLATION
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import Reply
from ticketd.wire.requests import Book, Cancel, Redeem

ROWS = {Book: 1, Redeem: ROWS_OF_A_BOOKING, Cancel: ROWS_OF_A_CANCELLATION}


class Nobody:
    """Submits, and does not care about the replies."""

    peer = "nobody"
    actor: str | None = None

    def deliver(self, replies: Sequence[Reply]) -> None: ...


def unknown(booking: str) -> None:
    """No event of a booking is known."""


def new_queues() -> Queues:
    return Queues(Limits(), unknown, queue_per_connection=False)


def add(queues: Queues, request: LedgerRequest, count: int, peer: str) -> Submission:
    """Let one client submit the request so many times at once."""
    requests = [request] * count
    rows = count * ROWS[type(request)]
    submission = Submission(Nobody(), requests, queues.choose_queue(requests, peer), 0, rows)
    queues.add(submission)
    return submission


def test_a_crowd_of_unknown_events_lets_a_quiet_one_pass() -> None:
    for of_unknown in (Redeem("anna.9f86d081884c"), Cancel("anna")):
        queues = new_queues()
        for number in range(100):
            most = Limits().rows_per_event_max // ROWS[type(of_unknown)]
            add(queues, of_unknown, min(16, most), f"127.0.0.1:{number}")
        quiet = add(queues, Book("quiet", 1), 1, "127.0.0.1:65000")
        assert quiet in queues.take_batch(0).submissions


def test_unknown_events_take_no_more_than_one_event_may() -> None:
    queues = new_queues()
    for number in range(100):
        add(queues, Cancel("anna"), 1, f"127.0.0.1:{number}")
    batch = queues.take_batch(0)
    assert sum(submission.rows for submission in batch.submissions) <= Limits().rows_per_event_max


async def test_redemptions_of_many_connections_share_commits(opened: Opened) -> None:
    async with opened() as committer:
        [booked] = await asked(committer, Book("hot", 40))
        tickets: list[str] = getattr(booked, "tickets", [])
        before = committer.activity.counts.commits
        crowd = [asked(committer, Redeem(ticket), peer=f"127.0.0.1:{n}") for n, ticket in enumerate(tickets)]
        assert {code for replies in crowd for code in codes(await replies)} == {None}
        assert committer.activity.counts.commits - before <= 8
