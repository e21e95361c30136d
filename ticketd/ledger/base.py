"""The contract of every ledger: what it answers, and which errors it reports. Knows no database.

A ledger loads what a batch names, lets the rules decide, and saves the changes, all in one commit.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from ticketd.model import Booking, Event
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import Reply


class Answers(NamedTuple):
    """A reply to each request, in order, and whether anything was changed.

    ``events`` are at least the changed events in their new state. A SharedLedger returns all events that the replies
    show, in that state or a later one, so that the catalogue never falls behind a reply. ``rows`` says how much of a
    slice was read for them. ``removed`` are events that are gone, though those of them that are in ``events`` were
    created again. ``expired`` is how many tickets of each event were in holds that ended. ``offered`` are the bookings
    that waited in line and got their tickets, and ``evicted`` those taken off the list by the limit per buyer.
    """

    replies: Sequence[Reply]
    events: Sequence[Event] = ()
    changed: bool = False
    rows: int = 0
    removed: Collection[str] = ()
    expired: Mapping[str, int] = {}
    offered: Sequence[Booking] = ()
    evicted: Sequence[Booking] = ()


class Changes(NamedTuple):
    """Events in their new states, and the ids of events that were removed, even if they were created again.

    ``blocked`` says why no commit is possible now, although the ledger can be read; it is empty if one is.
    """

    events: Sequence[Event]
    removed: Collection[str] = ()
    blocked: str = ""


# A slice of reading ends when it has loaded this many bookings and tickets, so that the next commit waits no longer.
ROWS_PER_SLICE = 256

# Gets the result of a call that was not answered at once, or its error.
Done = Callable[[Answers | Exception], None]


class CannotOpenError(Exception):
    """The ledger cannot be opened; the message says why and what to do."""


class LedgerDamagedError(CannotOpenError):
    """The ledger is not whole, so parts of it cannot be read; the message says what is wrong."""


class StorageFullError(Exception):
    """There is no room for the commit. Nothing was done."""


class LedgerUnavailableError(Exception):
    """The ledger cannot be reached now; the message says why. Nothing was done; try again."""


class EventsLockedError(Exception):
    """Another daemon has locked an event of the batch for too long. Nothing was done; try again."""


class OutcomeUnknownError(Exception):
    """The batch may be committed or not."""


class LedgerFailedError(OutcomeUnknownError):
    """The batch may be committed or not, and the ledger cannot be trusted any more.

    The process must end without another write. The next start reads what is durable.
    """


class Ledger(Protocol):
    """A ledger. Its methods are called from the loop.

    Methods with ``done`` return the result if it is known at once. Otherwise they return None, and the loop later calls
    ``done`` exactly once, with the result or the error: StorageFullError, EventsLockedError, LedgerUnavailableError,
    OutcomeUnknownError, LedgerFailedError, or a bug.
    """

    # How many calls of ``transact`` may wait for their results at the same time.
    commits_at_once: int

    def transact(
        self, requests: list[LedgerRequest], done: Done, actors: Sequence[str | None] | None = None
    ) -> Answers | None:
        """Decide the requests in order and commit all their changes, or none.

        First, holds that have run out expire: at least those of the requests' events, or all if there are no requests.
        What is available is offered to those who wait in line, as ``rules.waiting`` says.
        If anything changed, ``done`` gets the result when it is durable, not before. ``actors`` are the names of those
        who sent the requests, if any are known. Raises LedgerFailedError.
        """
        ...

    def without_commit(self, requests: Sequence[LedgerRequest], refusal: Reply, done: Done) -> Answers | None:
        """Decide each request by itself, and answer those that need a commit with ``refusal``.

        The replies show what is committed, so holds that have run out are still held. Raises LedgerFailedError.
        """
        ...

    @property
    def can_read(self) -> bool:
        """Whether ``read`` may be called now."""
        ...

    def read(self, requests: Sequence[LedgerRequest], done: Done) -> Answers | None:
        """Answer the first requests from what is committed: at least one, and at most a slice.

        None of them may change anything. Raises LedgerFailedError.
        """
        ...

    def held(self, booking: str) -> tuple[str, int] | None:
        """Return the event and the quantity of a booking that is held, if that is known without a query."""
        ...

    @property
    def next_expiry(self) -> int | None:
        """When the first hold runs out or ran out, or tickets can be offered to those who wait in line.

        In milliseconds since 1970; None if neither is known.
        """
        ...

    def now(self) -> int:
        """Return the time in milliseconds since 1970, by the clock that decides when holds run out."""
        ...

    async def events(self) -> list[Event]:
        """Return every committed event in the order of creation. Raises CannotOpenError."""
        ...

    async def close(self) -> None:
        """Fold the log, if there is one, and close the ledger. Raises LedgerFailedError."""
        ...


@runtime_checkable
class SharedLedger(Ledger, Protocol):
    """A ledger that other daemons write to too."""

    async def fetch_changes(self) -> Changes:
        """Return at least the events that were changed or removed since the last call, by whomever.

        Raises LedgerUnavailableError, and CannotOpenError if this ticketd must not serve the ledger any more.
        """
        ...


@runtime_checkable
class CheckedLedger(Ledger, Protocol):
    """A ledger that is partly checked in the background, while it is served."""

    async def check(self) -> None:
        """Check what the start did not. Returns when all is checked, or the ledger closes. Raises LedgerFailedError."""
        ...
