"""The contract of a store: load what a batch names, let the rules decide, save what changed, all in one commit."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol, runtime_checkable

from ticketd.books import LedgerRequest
from ticketd.model import Event
from ticketd.protocol import Reply

# No hold has run out by then, and nobody knows yet when the next one will.
EPOCH = datetime.fromtimestamp(0, UTC)


class Committed(NamedTuple):
    """What a batch came to: a reply for each request, in order, and whether anything was changed.

    ``events`` are at least those that it changed, as they are now. Where others write to the ledger too, they are all
    that the replies tell of: nobody shall be told less by the catalogue later.
    """

    replies: list[Reply]
    events: list[Event]
    changed: bool


More = Callable[[], Sequence[LedgerRequest]]


def nothing_more() -> Sequence[LedgerRequest]:
    """Return no requests."""
    return ()


class CannotOpenError(Exception):
    """The ledger cannot be opened; the message says why and what to do."""


class StorageFullError(Exception):
    """There was no room to commit. The batch was certainly not done; the next one may be, when there is room."""


class LedgerAwayError(Exception):
    """The ledger cannot be reached now, as the message tells. The batch was certainly not done; try it again."""


class EventsLockedError(Exception):
    """Somebody else has had an event of the batch for too long. The batch was certainly not done; try it again."""


class OutcomeUnknownError(Exception):
    """Nobody can say whether the batch was done."""


class LedgerFailedError(OutcomeUnknownError):
    """Nor can the store be trusted any more.

    The process must end without another write; the restart recovers the truth.
    """


class Store(Protocol):
    """The ledger. At most ``commits_at_once`` calls of ``transact`` at a time."""

    commits_at_once: int

    async def transact(self, requests: list[LedgerRequest], more: More = nothing_more) -> Committed:
        """Decide the requests in order and commit what they change, whole or not at all.

        A store that had to wait for the events that they name may ask for ``more`` once it has them: requests of the
        same events that have come since. It adds them to ``requests``.

        Before anything else, holds that have run out by now expire: those of the events that the requests name, and
        all of them if there are no requests. When this returns, the commit is durable. A batch that changed nothing
        costs no commit, where the store can tell before. Raises StorageFullError, EventsLockedError, LedgerAwayError,
        OutcomeUnknownError or LedgerFailedError.
        """
        ...

    async def read(self, request: LedgerRequest) -> Reply | None:
        """Answer a request without a commit, or return None if it needs one.

        What it is answered by is what is committed: no hold has run out that was held then. Raises LedgerAwayError or
        LedgerFailedError.
        """
        ...

    @property
    def next_expiry(self) -> datetime | None:
        """When the next hold runs out, as far as is known: EPOCH before the first batch, and None if there are none."""
        ...

    def now(self) -> datetime:
        """Return the time by which holds run out, in UTC. A batch decides by this clock."""
        ...

    async def events(self) -> list[Event]:
        """Return every committed event in the order of creation. Raises CannotOpenError."""
        ...

    async def tidy(self) -> None:
        """Do the housekeeping that is due, if any, between two commits. Raises LedgerFailedError."""
        ...

    async def close(self) -> None:
        """Finish the housekeeping and let go of the ledger. Raises LedgerFailedError."""
        ...


@runtime_checkable
class SharedStore(Store, Protocol):
    """A ledger that other daemons write to as well."""

    async def news(self) -> list[Event]:
        """Return at least the events that anybody has changed since this was last called. Raises LedgerAwayError."""
        ...
