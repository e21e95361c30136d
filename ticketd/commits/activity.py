"""Owns the counts that ``stats`` shows, and logs what was committed.

Each change gets a log line of its own, up to LINES_PER_SECOND_MAX. The other changes of a second are summed up in one
line: a log record costs as much as a booking.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from ticketd.commits.queues import Submission
from ticketd.rules.commands import TABLE
from ticketd.wire.replies import BookingReply, ErrorReply, EventReply, Reply, TicketReply
from ticketd.wire.schema import quoted

log = logging.getLogger(__name__)

LINES_PER_SECOND_MAX = 50


@dataclass(slots=True)
class Counts:
    """Numbers of commits, changes, bookings and tickets sold, and refused requests."""

    commits: int = 0
    changes: int = 0
    bookings: int = 0
    tickets: int = 0
    refused: int = 0

    def add(self, more: "Counts") -> None:
        """Add other counts to these."""
        self.commits += more.commits
        self.changes += more.changes
        self.bookings += more.bookings
        self.tickets += more.tickets
        self.refused += more.refused


class Activity:
    """Counts and logs. Times are in seconds of the loop's clock."""

    def __init__(self) -> None:
        # Since the start.
        self.counts = Counts()
        self._second = 0.0
        self._lines = 0
        # Changes of this second without lines of their own.
        self._unlogged = Counts()

    def record(self, submissions: Sequence[Submission], replies: Sequence[Reply], now: float, *, changed: bool) -> None:
        """Count and log the outcome of a batch. The replies are in the order of its requests."""
        self.log_summary(now)
        if not changed:
            self.counts.refused += sum([type(reply) is ErrorReply for reply in replies])
            return
        log_each = self._lines + len(replies) <= LINES_PER_SECOND_MAX
        done = Counts(commits=1)
        answers = iter(replies)
        for submission in submissions:
            for request in submission.requests:
                reply = next(answers)
                if type(reply) is ErrorReply:
                    done.refused += 1
                    continue
                row = TABLE[type(request)]
                if row.verb is None or getattr(reply, "replayed", False):
                    continue
                done.changes += 1
                if row.sells and type(reply) is BookingReply:
                    done.bookings += 1
                    done.tickets += reply.quantity
                if log_each:
                    self._lines += 1
                    log.info("%s %s peer=%s", row.verb, _describe(reply), submission.client.peer)
        self.counts.add(done)
        if not log_each:
            self._unlogged.add(done)

    def log_summary(self, now: float) -> None:
        """Log the summary of a second that is over. With ``now`` = infinity, it is over."""
        if now // 1 == self._second:
            return
        self._second, self._lines = now // 1, 0
        unlogged = self._unlogged
        if unlogged.changes:
            self._unlogged = Counts()
            log.info(
                "committed changes=%d commits=%d bookings=%d tickets=%d refused=%d",
                unlogged.changes,
                unlogged.commits,
                unlogged.bookings,
                unlogged.tickets,
                unlogged.refused,
            )


def _describe(reply: Reply) -> str:
    match reply:
        case BookingReply():
            cancelled = f" cancelled={len(reply.cancelled)}" if reply.cancelled else ""
            quantity = f"quantity={reply.quantity}{cancelled}"
            return f"event={reply.event} {quantity} booking={reply.id} available={reply.available}"
        case EventReply():
            return f"event={reply.id} name={quoted(reply.name)} capacity={reply.capacity} available={reply.available}"
        case TicketReply():
            return f"event={reply.event} ticket={reply.id} booking={reply.booking}"
        case _:
            return ""
