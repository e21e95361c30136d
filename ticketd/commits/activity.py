"""Owns the counts that ``stats`` and the metrics show, and logs what was committed and what was refused.

Each change gets a log line of its own, up to LINES_PER_SECOND_MAX, and the holds of an event that ran out together get
one. Bookings whose turn in line came are logged after the requests of their commit. The other changes of a second are
summed up in one line, unless each has to be named, and its refusals in one line for each code: a log record costs as
much as a booking, so one record has the lines of all changes of a commit.
"""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import nlargest
from itertools import repeat

from msgspec import json

from ticketd.commits.catalogue import Catalogue
from ticketd.commits.queues import Batch, Submission
from ticketd.commits.timings import Timings
from ticketd.ledger.base import Answers
from ticketd.model import Booking, opt_time_of, time_of
from ticketd.rules.commands import TABLE
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import BookingReply, ErrorReply, EventReply, EventStats, Reply, SlowCommit, TicketReply
from ticketd.wire.requests import Amend, Hold
from ticketd.wire.schema import quoted

log = logging.getLogger(__name__)

LINES_PER_SECOND_MAX = 50
# Counts are kept of at most so many events, those that had requests first. ``stats`` shows the busiest of them.
EVENTS_COUNTED_MAX = 10_000
EVENTS_SHOWN_MAX = 100


@dataclass(slots=True)
class Counts:
    """Numbers of commits, changes, bookings and tickets sold, tickets whose holds ran out, and bookings in line that
    were offered tickets.
    """

    commits: int = 0
    changes: int = 0
    bookings: int = 0
    tickets: int = 0
    expired: int = 0
    offered: int = 0

    def add(self, commits: int, changes: int, bookings: int, tickets: int, expired: int, offered: int) -> None:
        """Add to each number."""
        self.commits += commits
        self.changes += changes
        self.bookings += bookings
        self.tickets += tickets
        self.expired += expired
        self.offered += offered


class Activity:
    """Counts and logs, for the events in a catalogue. Times are in seconds of the loop's clock.

    ``clock`` returns milliseconds since 1970. With ``logs_each``, each change has a line, however many there are.
    """

    def __init__(self, catalogue: Catalogue, clock: Callable[[], int], *, logs_each: bool = False) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._lines_max = math.inf if logs_each else LINES_PER_SECOND_MAX
        # Since the start.
        self.counts = Counts()
        # Requests that were refused, since the start.
        self.refused = 0
        self.timings = Timings()
        # Requests by their kinds, but for those that are answered from memory, or not submitted at all. A Counter would
        # take three times as long.
        self.requests: defaultdict[type[LedgerRequest], int] = defaultdict(int)
        # Refused requests by their kind and the code, up to the last summary.
        self._refusals: Counter[tuple[type[LedgerRequest], str]] = Counter()
        self._events: dict[str, EventStats] = {}
        self._second = 0.0
        self._lines = 0
        # Changes of this second without lines of their own, and its refusals.
        self._unlogged = Counts()
        self._refused: Counter[tuple[type[LedgerRequest], str]] = Counter()
        self._busiest: list[EventStats] | None = None

    def record(self, batch: Batch, answers: Answers, now: float, ended: float) -> None:
        """Count and log the outcome of a batch, whose replies are in the order of its requests.

        ``ended`` is when the ledger answered, by the clock of its other times.
        """
        self.log_summary(now)
        lines: list[str] | None = None
        served = *answers.offered, *answers.evicted
        if self._lines + len(answers.replies) + len(answers.expired) + len(served) <= self._lines_max:
            lines = [f"expired event={event_id} tickets={tickets}" for event_id, tickets in answers.expired.items()]
        changes, bookings = len(served), 0
        sold: defaultdict[str, int] = defaultdict(int)
        held: defaultdict[str, int] = defaultdict(int)
        names = repeat("") if lines is None else [_name(each) for each in batch.submissions for _ in each.requests]
        requests = self.requests
        for request, reply, by in zip(batch.requests(), answers.replies, names, strict=False):
            kind = type(request)
            requests[kind] += 1
            if type(reply) is ErrorReply:
                self.count_refusal(request, reply.code)
                continue
            row = TABLE[kind]
            if row.verb is None or getattr(reply, "replayed", False):
                continue
            changes += 1
            if type(reply) is BookingReply:
                if row.sells:
                    bookings += 1
                    sold[reply.event] += reply.quantity
                elif kind is Hold:
                    held[reply.event] += reply.quantity
            if lines is not None:
                lines.append(f"{row.verb} {_describe(request, reply)}{by}")
        for booking in answers.offered:
            held[booking.event] += booking.quantity
        if lines is not None:
            lines += map(_describe_served, served)
        tickets, expired = sum(sold.values()), sum(answers.expired.values())
        done = int(answers.changed), changes, bookings, tickets, expired, len(answers.offered)
        self._count_tickets(sold, held, answers.expired)
        self.counts.add(*done)
        if answers.changed:
            self._record_time(batch, len(answers.replies), now, ended)
        if lines:
            self._lines += len(lines)
            log.info("%s", "\n".join(lines))
        elif lines is None:
            self._unlogged.add(*done)

    def _record_time(self, batch: Batch, requests: int, now: float, ended: float) -> None:
        seconds, sync_seconds = ended - batch.began, ended - batch.decided
        # The loop's clock is not exact.
        waited = max(0.0, now - batch.submissions[0].arrived - seconds) if batch.submissions else 0.0
        if self.timings.record(waited, seconds, sync_seconds, now):
            at, queues = time_of(self._clock()), len(batch.queues)
            commit = SlowCommit(at, round(seconds, 6), round(sync_seconds, 6), requests, queues)
            self.timings.keep(commit, now)

    def count_requests(self, requests: Iterable[LedgerRequest]) -> None:
        """Count requests that were decided, or answered."""
        for request in requests:
            self.requests[type(request)] += 1

    def count_refusals(self, requests: Sequence[LedgerRequest], code: str) -> None:
        """Count requests that get this error without being decided."""
        self.count_requests(requests)
        for request in requests:
            self.count_refusal(request, code)

    def count_refusal(self, request: LedgerRequest, code: str) -> None:
        """Count a request that was refused."""
        self.refused += 1
        self._refused[type(request), code] += 1
        event_id = getattr(request, "event", None)
        # Who may do nothing with an event must not use up the counts of others.
        if code != "unauthorized" and isinstance(event_id, str) and (stats := self._of(event_id)):
            stats.refused[code] = stats.refused.get(code, 0) + 1

    def refusals(self) -> Counter[tuple[type[LedgerRequest], str]]:
        """Return how many requests were refused, by their kind and the code."""
        return self._refusals + self._refused

    def busiest(self) -> list[EventStats]:
        """Return the counts of the EVENTS_SHOWN_MAX events with the most of them. They are renewed every second."""
        if self._busiest is None:
            self._busiest = nlargest(EVENTS_SHOWN_MAX, self._events.values(), key=_total)
        return self._busiest

    def _of(self, event_id: str) -> EventStats | None:
        """Return the counts of an event, or None if they are not kept."""
        stats = self._events.get(event_id)
        # Whoever asks for events that do not exist must not fill the memory.
        if stats is None and len(self._events) < EVENTS_COUNTED_MAX and self._catalogue.get(event_id):
            self._events[event_id] = stats = EventStats(event_id, refused={})
        return stats

    def _count_tickets(self, sold: Mapping[str, int], held: Mapping[str, int], expired: Mapping[str, int]) -> None:
        for event_id in {*sold, *held, *expired}:
            if stats := self._of(event_id):
                stats.sold += sold.get(event_id, 0)
                stats.held += held.get(event_id, 0)
                stats.expired += expired.get(event_id, 0)

    def log_summary(self, now: float) -> None:
        """Log the summary of a second that is over. With ``now`` = infinity, it is over."""
        if now // 1 == self._second:
            return
        self._second, self._lines = now // 1, 0
        if len(self._events) >= EVENTS_COUNTED_MAX:
            # Events that were deleted make room for others.
            self._events = {id: stats for id, stats in self._events.items() if self._catalogue.get(id)}
        self._busiest = None
        unlogged = self._unlogged
        if unlogged.changes or unlogged.expired:
            self._unlogged = Counts()
            log.info(
                "committed changes=%d commits=%d bookings=%d tickets=%d expired=%d offered=%d",
                unlogged.changes,
                unlogged.commits,
                unlogged.bookings,
                unlogged.tickets,
                unlogged.expired,
                unlogged.offered,
            )
        by_code: Counter[str] = Counter()
        for (_, code), requests in self._refused.items():
            by_code[code] += requests
        for code, requests in by_code.items():
            log.info("refused code=%s requests=%d", code, requests)
        self._refusals.update(self._refused)
        self._refused.clear()


def _total(stats: EventStats) -> int:
    return stats.sold + stats.held + stats.expired + sum(stats.refused.values())


def _name(submission: Submission) -> str:
    """Return the end of each line of a submission: whose it is."""
    peer, actor = submission.client.peer, submission.actor
    return f" peer={peer}" if actor is None else f" peer={peer} by={actor}"


def _describe(request: LedgerRequest, reply: Reply) -> str:
    # By far the most lines are these, perhaps 100,000 in a second.
    if type(reply) is BookingReply:
        if reply.admitted:
            # What else it shows is from when the booking was made or changed.
            return f"event={reply.event} booking={reply.id} admitted={len(reply.admitted)}"
        cancelled = f" cancelled={len(reply.cancelled)}" if reply.cancelled else ""
        expires = f" expires={_text(reply.expires)}" if reply.expires else ""
        return (
            f"event={reply.event} quantity={reply.quantity}{cancelled} booking={reply.id} available={reply.available}"
            f"{expires}"
        )
    match reply:
        case EventReply() if isinstance(request, Amend):
            given = " ".join(f"{name}={_text(value)}" for name, value in request.given.items())
            return f"event={reply.id} {given} available={reply.available}"
        case EventReply():
            return f"event={reply.id} name={quoted(reply.name)} capacity={reply.capacity} available={reply.available}"
        case TicketReply():
            return f"event={reply.event} ticket={reply.id} booking={reply.booking}"
        case _:
            return ""


def _describe_served(booking: Booking) -> str:
    """Return the log line of a booking that was offered tickets or evicted."""
    assert booking.changes
    # It may have changed again since.
    turn = booking.changes[0]
    which = f"event={booking.event} quantity={booking.quantity} booking={booking.id} available={turn.available}"
    if turn.what == "leave":
        return f"evicted {which} code=buyer_limit"
    return f"offered {which} expires={_text(opt_time_of(turn.expires))}"


def _text(value: str | int | datetime | None) -> str:
    """Return a value as in the protocol, on one line. Only strings are in quotes."""
    return quoted(value) if isinstance(value, str) else json.encode(value).decode().strip('"')
