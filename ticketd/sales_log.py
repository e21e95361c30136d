"""What a commit says in the log and adds to the counts of ``stats``.

A commit of few sales logs a line for each; one of many logs one line for all, so that a stampede is not slowed by it.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ticketd.books import LedgerRequest
from ticketd.declared import quoted
from ticketd.protocol import (
    Amend,
    Book,
    BookingReply,
    Cancel,
    Confirm,
    Create,
    ErrorReply,
    EventReply,
    Hold,
    Redeem,
    Release,
    Reply,
    Restore,
    TicketReply,
)

log = logging.getLogger(__name__)

LINES_PER_COMMIT_MAX = 8


@dataclass(slots=True)
class Counts:
    """What has been done since the start."""

    commits: int = 0
    bookings: int = 0
    tickets: int = 0
    refused: int = 0


class _Party(Protocol):
    @property
    def requests(self) -> Sequence[LedgerRequest]: ...
    @property
    def peer(self) -> str: ...


def record(counts: Counts, parties: Iterable[_Party], replies: Sequence[Reply], *, committed: bool) -> None:
    """Count and log what the parties asked and were answered, the replies of one after those of the other."""
    lines: list[str] = []
    bookings = tickets = done = refused = position = 0
    for party in parties:
        for request in party.requests:
            reply = replies[position]
            position += 1
            if isinstance(reply, ErrorReply):
                refused += 1
                continue
            verb = _VERBS.get(type(request))
            if verb is None or getattr(reply, "replayed", False):
                continue
            done += 1
            if isinstance(request, (Book, Confirm)) and isinstance(reply, BookingReply):
                bookings += 1
                tickets += reply.quantity
            if done <= LINES_PER_COMMIT_MAX:
                lines.append(f"{verb} {_facts(reply)} peer={party.peer}")
    counts.commits += committed
    counts.bookings += bookings
    counts.tickets += tickets
    counts.refused += refused
    if done > LINES_PER_COMMIT_MAX:
        lines = [f"committed changes={done} bookings={bookings} tickets={tickets} refused={refused}"]
    for line in lines:
        log.info("%s", line)


_VERBS: dict[type, str] = {
    Create: "created",
    Amend: "amended",
    Book: "booked",
    Hold: "held",
    Confirm: "confirmed",
    Release: "released",
    Cancel: "cancelled",
    Redeem: "redeemed",
    Restore: "restored",
}


def _facts(reply: Reply) -> str:
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
