"""What a commit says in the log and adds to the counts of ``stats``.

A commit of few sales logs a line for each; one of many logs one line for all, so that a stampede is not slowed by it.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ticketd.declared import quoted
from ticketd.protocol import Book, BookingReply, Create, ErrorReply, EventReply, Reply
from ticketd.rules import LedgerRequest

log = logging.getLogger(__name__)

LINES_PER_COMMIT_MAX = 8


@dataclass(slots=True)
class Counts:
    """What has been done since the start."""

    commits: int = 0
    requests: int = 0
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
    bookings = tickets = created = refused = position = 0
    for party in parties:
        for request in party.requests:
            reply = replies[position]
            position += 1
            if isinstance(reply, ErrorReply):
                refused += 1
            elif isinstance(request, Book) and isinstance(reply, BookingReply) and not reply.replayed:
                bookings += 1
                tickets += reply.quantity
                if bookings + created <= LINES_PER_COMMIT_MAX:
                    lines.append(
                        f"booked event={reply.event} quantity={reply.quantity} booking={reply.id}"
                        f" available={reply.available} peer={party.peer}"
                    )
            elif isinstance(request, Create) and isinstance(reply, EventReply) and not reply.replayed:
                created += 1
                if bookings + created <= LINES_PER_COMMIT_MAX:
                    lines.append(
                        f"created event={reply.id} name={quoted(reply.name)} capacity={reply.capacity}"
                        f" peer={party.peer}"
                    )
    counts.commits += committed
    counts.bookings += bookings
    counts.tickets += tickets
    counts.refused += refused
    if bookings + created > LINES_PER_COMMIT_MAX:
        lines = [f"committed bookings={bookings} tickets={tickets} created={created} refused={refused}"]
    for line in lines:
        log.info("%s", line)
