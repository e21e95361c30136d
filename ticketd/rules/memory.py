"""The contract of the memory from which the rules answer without the ledger."""

from collections import defaultdict
from typing import Protocol

from ticketd.model import Event
from ticketd.wire.replies import ErrorReply, ReadyReply, StatsReply
from ticketd.wire.requests import List, Request


class Memory(Protocol):
    """What the daemon has in memory: the committed events and its counts."""

    # The number of requests received, and by their kinds those answered from memory. Sessions count them.
    requests: int
    answered: defaultdict[type[Request], int]

    def now(self) -> int:
        """Return the time by the clock of the ledger, in milliseconds since 1970."""
        ...

    def has_due_holds(self) -> bool:
        """Whether holds may have run out that still count as held, and a commit could end them now."""
        ...

    def event(self, event_id: str) -> Event | None:
        """Return a committed event, or None."""
        ...

    def is_settled(self, event_id: str) -> bool:
        """Whether nothing that waits or is in commit can change the event, nor can another daemon."""
        ...

    def held(self, booking: str) -> tuple[str, int] | None:
        """Return the event and the quantity of a booking that is held, if that is known."""
        ...

    def count_refusal(self, request: Request, refusal: ErrorReply) -> None:
        """Count a request that was refused from memory."""
        ...

    def list_frame(self, request: List) -> bytes:
        """Return the encoded reply to ``list``, or raise TicketError."""
        ...

    def ready(self) -> ReadyReply | ErrorReply:
        """Return the reply to ``ready``: an error says why no commit is possible now."""
        ...

    def stats(self) -> StatsReply:
        """Return the reply to ``stats``."""
        ...
