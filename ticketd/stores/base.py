"""The contract of a store: load what a batch names, let the rules decide, save what changed, all in one commit."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from ticketd.books import LedgerRequest
from ticketd.model import Event
from ticketd.protocol import Reply


class Committed(NamedTuple):
    """What a batch came to.

    A reply for each request, in order; the events that it changed, as they are now; and when the next hold runs out.
    """

    replies: list[Reply]
    events: list[Event]
    next_expiry: datetime | None


class CannotOpenError(Exception):
    """The ledger cannot be opened; the message says why and what to do."""


class StorageFullError(Exception):
    """There was no room to commit. The batch was certainly not done; the next one may be, when there is room."""


class OutcomeUnknownError(Exception):
    """The store cannot be trusted, or cannot say whether the batch is durable.

    The process must end without another write; the restart recovers the truth.
    """


class Store(Protocol):
    """The ledger. One call of ``transact`` at a time."""

    async def transact(self, requests: Sequence[LedgerRequest]) -> Committed:
        """Decide the requests in order and commit what they change, whole or not at all.

        Before anything else, all holds that have run out by now expire; no requests at all do just that.
        When this returns, the commit is durable. A batch that changed nothing costs no sync.
        Raises StorageFullError or OutcomeUnknownError.
        """
        ...

    async def read(self, request: LedgerRequest) -> Reply | None:
        """Answer a request without a commit, or return None if it needs one.

        What it is answered by is what is committed: no hold has run out that was held then. Raises OutcomeUnknownError.
        """
        ...

    def now(self) -> datetime:
        """Return the time by which holds run out, in UTC. A batch decides by this clock."""
        ...

    async def events(self) -> list[Event]:
        """Return every committed event in the order of creation. Raises CannotOpenError."""
        ...

    async def tidy(self) -> None:
        """Do the housekeeping that is due, if any, between two commits. Raises OutcomeUnknownError."""
        ...

    async def close(self) -> None:
        """Finish the housekeeping and let go of the ledger."""
        ...
