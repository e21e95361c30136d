"""Events, bookings and tickets, their states and their bounds. Pure: no I/O, no clock, no randomness.

The capacity law holds for every event at every moment::

    sold + held + available = capacity, none of them below 0
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct

CAPACITY_MAX = 1_000_000_000
TICKETS_PER_BOOKING_MAX = 1_000
HOLD_SECONDS_MAX = 86_400
HOLD_SECONDS_DEFAULT = 300
# How long a party whose turn has come has to confirm.
WAIT_SECONDS_DEFAULT = 900
# How many bookings of one event may wait in line.
WAITING_MAX = 100_000
# How long a hold may last in all, however often it is extended, unless --hold-seconds-total-max says otherwise.
HOLD_SECONDS_TOTAL_MAX_DEFAULT = 86_400
ID_CHARS_MAX = 64
NAME_BYTES_MAX = 200
BUYER_BYTES_MAX = 200
REASON_BYTES_MAX = 200

# The title of a type says what a value must be, in error messages and help texts. A type with bounds (``ge``, ``le``)
# needs no title: the text is made from its bounds.
_ID = re.compile(rf"^[A-Za-z0-9._-]{{1,{ID_CHARS_MAX}}}\Z")
Id = Annotated[str, Meta(pattern=_ID.pattern, title=f"1 to {ID_CHARS_MAX} of A-Z a-z 0-9 . _ -")]
# A ticket's id is that of its booking, a point, and TICKET_CHARS random hexadecimal digits. It leads to its booking
# without an index, and cannot be guessed: 48 bits.
TICKET_CHARS = 12
_TICKET_ID_CHARS_MAX = ID_CHARS_MAX + 1 + TICKET_CHARS
TicketId = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z0-9._-]{{1,{_TICKET_ID_CHARS_MAX}}}\Z",
        title=f"1 to {_TICKET_ID_CHARS_MAX} of A-Z a-z 0-9 . _ -",
    ),
]
_TEXT = "bytes of text without control characters"
Name = Annotated[str, Meta(title=f"1 to {NAME_BYTES_MAX} {_TEXT}")]
Buyer = Annotated[str, Meta(title=f"1 to {BUYER_BYTES_MAX} {_TEXT}")]
Reason = Annotated[str, Meta(title=f"1 to {REASON_BYTES_MAX} {_TEXT}")]
DATE_TITLE = "a day and time with its zone, such as 2027-03-11T20:00:00Z"
Date = Annotated[datetime, Meta(tz=True, title=DATE_TITLE)]
Capacity = Annotated[int, Meta(ge=1, le=CAPACITY_MAX)]
Quantity = Annotated[int, Meta(ge=1, le=TICKETS_PER_BOOKING_MAX)]
# So low that all bookings of a buyer that count can be read before the next one is decided.
PerBuyer = Annotated[int, Meta(ge=1, le=TICKETS_PER_BOOKING_MAX)]
Seconds = Annotated[int, Meta(ge=1, le=HOLD_SECONDS_MAX)]

BookingState = Literal["waiting", "held", "confirmed", "released", "expired", "cancelled"]
TicketState = Literal["valid", "redeemed", "cancelled", "reissued"]

# Characters that could forge a line or reorder text on a terminal: controls (C0, DEL, C1), line and paragraph
# separators, bidi embeddings, overrides and isolates (Unicode Standard Annex 9); and lone surrogates.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def is_id(text: str) -> bool:
    """Whether text is the id of an event or a booking."""
    return bool(_ID.match(text))


def printable(text: str) -> str:
    """Return text with the characters of UNSAFE escaped as ``\\u001b``. Escaped JSON is still valid JSON."""
    return UNSAFE.sub(lambda unsafe: f"\\u{ord(unsafe[0]):04x}", text)


def utc(time: datetime, name: str = "date") -> datetime:
    """Return the same moment in UTC. Raises TypeError, or ValueError if it has no zone or is out of years 1 to 9999.

    ``name`` is what the message calls it.
    """
    if not isinstance(time, datetime):
        raise TypeError(f"{name} must be a datetime, and it is a {type(time).__name__}")
    if time.utcoffset() is None:
        # astimezone would take it for the time of this machine.
        raise ValueError(f"{name} needs a zone, such as tzinfo=UTC")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{name} must be within the years 1 to 9999 in UTC") from None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def milliseconds(time: datetime) -> int:
    """Return a time as whole milliseconds since 1970 in UTC, rounded up, as ledgers keep it."""
    return -((_EPOCH - time) // timedelta(milliseconds=1))


@lru_cache(maxsize=1_024)
def time_of(count: int) -> datetime:
    """Return the time that so many milliseconds since 1970 stand for, in UTC."""
    return _EPOCH + timedelta(milliseconds=count)


def opt_time_of(count: int | None) -> datetime | None:
    """Return ``time_of`` of a count, or None for None."""
    return None if count is None else time_of(count)


def ticket_id(booking: str, ticket: str) -> str:
    """Return the id by which people know a ticket of a booking."""
    return f"{booking}.{ticket}"


def ticket_parts(id: str) -> tuple[str, str]:
    """Return the booking and the ticket in it that an id would stand for. Both are empty if it cannot be a ticket's."""
    booking, _, ticket = id.rpartition(".")
    return (booking, ticket) if booking and len(ticket) == TICKET_CHARS else ("", "")


# None of these can be part of a cycle, so the collector of cycles need not look at them (gc=False). Their fields are
# the columns of the ledger, in this order: encoded as arrays they are its rows.


class EventTerms(NamedTuple):
    """What people decide about an event. Times of the sale are in milliseconds since 1970; ``date`` is when it begins.

    It is on sale from ``opens``, and before ``closes``, unless it is ``paused``. A buyer may hold and have bought
    ``per_buyer`` tickets at most.
    """

    name: str
    date: datetime
    capacity: int
    opens: int | None = None
    closes: int | None = None
    paused: bool = False
    per_buyer: int | None = None


class Event(Struct, array_like=True, gc=False):
    """An event and how many of its tickets are where.

    ``version`` counts its changes one by one, and ``amendments`` those of them that were no bookings.
    ``sold_elsewhere`` is the part of ``sold`` whose bookings are not in the ledger, so ``sold - sold_elsewhere`` is how
    many of its tickets in the ledger are not cancelled. ``original`` is with what it was created, or None if it was
    never amended. ``waiting`` is how many bookings wait in line for its tickets. For the other fields, see EventTerms.
    """

    id: str
    name: str
    date: datetime
    capacity: int
    available: int
    held: int
    sold: int
    version: int
    sold_elsewhere: int
    opens: int | None = None
    closes: int | None = None
    paused: bool = False
    per_buyer: int | None = None
    amendments: int = 0
    original: EventTerms | None = None
    waiting: int = 0

    @property
    def terms(self) -> EventTerms:
        """What people have decided about it."""
        return EventTerms(self.name, self.date, self.capacity, self.opens, self.closes, self.paused, self.per_buyer)

    def is_on_sale(self, now: int) -> bool:
        """Whether it may be booked at a time in milliseconds since 1970."""
        opens, closes = self.opens, self.closes
        return not self.paused and (opens is None or opens <= now) and (closes is None or now < closes)

    def shift(self, *, available: int = 0, held: int = 0, sold: int = 0, waiting: int = 0) -> None:
        """Move tickets between the parts of the capacity: one change. The caller has checked that they are there.

        ``waiting`` is by how many bookings the line becomes longer.
        """
        assert available + held + sold == 0
        self.available += available
        self.held += held
        self.sold += sold
        assert self.available >= 0 <= self.held
        assert self.sold >= self.sold_elsewhere
        if waiting:
            self.waiting += waiting
            assert self.waiting >= 0
        self.version += 1


ChangeKind = Literal["offer", "leave", "extend", "confirm", "release", "expire", "cancel", "reissue"]


class Change(Struct, array_like=True, gc=False):
    """A change of a booking after it was made, by a command or because the hold ran out (``expire``).

    A booking that waits in line gets its tickets by an ``offer``, which holds them, or it ``leave``s the line.

    ``available`` and ``version`` are the event's, right after the change. ``at`` is when it was. ``tickets`` are those
    that a ``cancel`` cancelled, or for a ``reissue``, the old one and the new one. ``expires`` is set by ``extend`` and
    ``offer``. ``actor`` is the name of who asked for it, if names are known. Times are in milliseconds since 1970.
    """

    what: ChangeKind
    available: int
    version: int
    at: int
    tickets: Sequence[str] = ()
    expires: int | None = None
    actor: str | None = None


_STATE_AFTER: dict[str, BookingState] = {
    "offer": "held",
    "leave": "released",
    "confirm": "confirmed",
    "release": "released",
    "expire": "expired",
}


def cancelled_by(changes: Sequence[Change]) -> set[str]:
    """Return the tickets that these changes of a booking cancelled."""
    return {ticket for change in changes if change.what == "cancel" for ticket in change.tickets}


class Booking(Struct, array_like=True, gc=False):
    """What one buyer has, or had. ``available`` and ``version`` are the event's right after it was booked or held.

    ``tickets`` are the last parts of the ids of its tickets; there are none until it is confirmed. ``seconds`` and
    ``expires`` are there if it was held first. If it waited in line first, ``seconds`` is how long it is held when its
    turn comes, and until then there is no ``expires``. ``changes`` are there if it has any. ``buyer`` is what the
    seller calls the buyer, if it said so, and ``actor`` the name of the seller, if names are known. Times are in
    milliseconds since 1970.
    """

    id: str
    event: str
    quantity: int
    state: BookingState
    tickets: list[str]
    available: int
    version: int
    booked_at: int
    seconds: int | None = None
    expires: int | None = None
    buyer: str | None = None
    actor: str | None = None
    changes: list[Change] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it was booked at once, and has not changed."""
        return self.seconds is None and self.changes is None

    @property
    def waited(self) -> bool:
        """Whether it began in the waiting list."""
        if not self.changes:
            return self.state == "waiting"
        return self.changes[0].what in ("offer", "leave")

    @property
    def held_since(self) -> int | None:
        """When its tickets were first held, or None if they never were."""
        if self.seconds is None:
            return None
        if self.waited:
            return self.changes[0].at if self.changes and self.changes[0].what == "offer" else None
        return self.booked_at

    @property
    def first_expires(self) -> int | None:
        """When it would have expired if it had never been extended."""
        since = self.held_since
        return None if since is None or self.seconds is None else since + self.seconds * 1_000

    def state_after(self, changes: Sequence[Change]) -> BookingState:
        """Return its state after these changes, which are its first ones."""
        if self.seconds is None:
            state: BookingState = "confirmed"
        else:
            state = "waiting" if self.waited else "held"
        for change in changes:
            state = _STATE_AFTER.get(change.what, state)
        return "cancelled" if len(cancelled_by(changes)) == self.quantity else state

    def cancelled(self) -> set[str]:
        """Return those of its tickets that are cancelled."""
        return cancelled_by(self.changes or ())

    def replaced(self) -> dict[str, str]:
        """Return the tickets that were reissued, each with the one that came in its place."""
        return dict(change.tickets for change in self.changes or () if change.what == "reissue")  # type: ignore[misc]

    def had(self, ticket: str) -> bool:
        """Whether this is one of its tickets, or was until it was reissued."""
        return ticket in self.tickets or ticket in self.replaced()

    def owned(self) -> int:
        """Return how many of its tickets count for the limit of its buyer: waited for, held, or sold, not cancelled."""
        return self.quantity - len(self.cancelled()) if self.state in ("waiting", "held", "confirmed") else 0


class Redemption(Struct, array_like=True, gc=False):
    """What happened to a ticket at the door. ``number`` counts this for each ticket, from 1.

    ``note`` is the id of the scan that redeemed it, or the reason why its redemption was annulled, or None.
    ``actor`` is the name of who did it, if names are known. ``at`` is in milliseconds since 1970.
    """

    booking: str
    ticket: str
    number: int
    what: Literal["redeem", "annul"]
    at: int
    note: str | None = None
    actor: str | None = None


def redeemed_at(history: Sequence[Redemption]) -> int | None:
    """Return when a ticket with this history was redeemed, in milliseconds since 1970; None if it is not."""
    return history[-1].at if history and history[-1].what == "redeem" else None
