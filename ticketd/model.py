"""Events, bookings and tickets, their states and their bounds. Pure: no I/O, no clock, no randomness.

The capacity law holds for every event at every moment::

    sold + held + available = capacity, none of them below 0
"""

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

CAPACITY_MAX = 1_000_000_000
TICKETS_PER_BOOKING_MAX = 1_000
HOLD_SECONDS_MAX = 86_400
HOLD_SECONDS_DEFAULT = 300
ID_CHARS_MAX = 64
NAME_BYTES_MAX = 200

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
Name = Annotated[str, Meta(title=f"1 to {NAME_BYTES_MAX} bytes of text without control characters")]
Date = Annotated[datetime, Meta(tz=True, title="a day and time with its zone, such as 2027-03-11T20:00:00Z")]
Capacity = Annotated[int, Meta(ge=1, le=CAPACITY_MAX)]
Quantity = Annotated[int, Meta(ge=1, le=TICKETS_PER_BOOKING_MAX)]
Seconds = Annotated[int, Meta(ge=1, le=HOLD_SECONDS_MAX)]

BookingState = Literal["held", "confirmed", "released", "expired", "cancelled"]
TicketState = Literal["valid", "redeemed", "cancelled"]

# Characters that could forge a line or reorder text on a terminal: controls (C0, DEL, C1), line and paragraph
# separators, bidi embeddings, overrides and isolates (Unicode Standard Annex 9); and lone surrogates.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def is_id(text: str) -> bool:
    """Whether text is the id of an event or a booking."""
    return bool(_ID.match(text))


def checked_text(name: str) -> str:
    """Return a name unchanged if it is safe to show and not too long. Raises ValueError, which says what is wrong."""
    if unsafe := UNSAFE.search(name):
        if "\ud800" <= unsafe[0] <= "\udfff":
            raise ValueError("name must be text in UTF-8")
        raise ValueError(f"name must not have the control or direction character U+{ord(unsafe[0]):04X} in it")
    size = len(name.encode())
    if not 1 <= size <= NAME_BYTES_MAX:
        raise ValueError(f"name must be 1 to {NAME_BYTES_MAX} bytes in UTF-8, and it has {size}")
    return name


def checked_name(name: str) -> str:
    """Return a new name unchanged. Raises ValueError, which says what is wrong with it.

    Only for new names: what is in NFC by the Unicode tables of one Python may not be by those of the next.
    """
    checked_text(name)
    if not unicodedata.is_normalized("NFC", name):
        raise ValueError("name must be in Unicode NFC, where an accent and its letter are one; normalize it")
    return name


def printable(text: str) -> str:
    """Return text with the characters of UNSAFE escaped as ``\\u001b``. Escaped JSON is still valid JSON."""
    return UNSAFE.sub(lambda unsafe: f"\\u{ord(unsafe[0]):04x}", text)


def utc(date: datetime) -> datetime:
    """Return the same moment in UTC. Raises ValueError if that is not within the years 1 to 9999."""
    try:
        return date.astimezone(UTC)
    except OverflowError:
        raise ValueError("date must be within the years 1 to 9999 in UTC") from None


def milliseconds(time: datetime) -> int:
    """Return a time as whole milliseconds since 1970 in UTC, as ledgers keep it."""
    return round(time.timestamp() * 1_000)


def time_of(count: int) -> datetime:
    """Return the time that so many milliseconds since 1970 stand for, in UTC."""
    return datetime.fromtimestamp(count / 1_000, UTC)


def ticket_id(booking: str, ticket: str) -> str:
    """Return the id by which people know a ticket of a booking."""
    return f"{booking}.{ticket}"


def ticket_parts(id: str) -> tuple[str, str]:
    """Return the booking and the ticket in it that an id would stand for. Both are empty if it cannot be a ticket's."""
    booking, _, ticket = id.rpartition(".")
    return (booking, ticket) if booking and len(ticket) == TICKET_CHARS else ("", "")


# None of these can be part of a cycle, so the collector of cycles need not look at them (gc=False). Their fields are
# the columns of the ledger, in this order: encoded as arrays they are its rows.


class Event(Struct, array_like=True, gc=False):
    """An event and how many of its tickets are where.

    ``version`` counts its changes one by one. ``sold_elsewhere`` is the part of ``sold`` whose bookings are not in the
    ledger, so ``sold - sold_elsewhere`` is how many of its tickets in the ledger are not cancelled. ``original`` is the
    name, date and capacity with which it was created, or None if it was never amended.
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
    original: tuple[str, datetime, int] | None = None

    def shift(self, *, available: int = 0, held: int = 0, sold: int = 0) -> None:
        """Move tickets between the parts of the capacity: one change. The caller has checked that they are there."""
        assert available + held + sold == 0
        self.available += available
        self.held += held
        self.sold += sold
        assert self.available >= 0 <= self.held
        assert self.sold >= self.sold_elsewhere
        self.version += 1


class Change(Struct, array_like=True, gc=False):
    """A change of a booking after it was made, by a command or because the hold ran out (``expire``).

    ``available`` and ``version`` are the event's, right after the change. ``tickets`` are those that a ``cancel``
    cancelled.
    """

    what: Literal["confirm", "release", "expire", "cancel"]
    available: int
    version: int
    tickets: Sequence[str] = ()


_STATE_AFTER: dict[str, BookingState] = {"confirm": "confirmed", "release": "released", "expire": "expired"}


def state_after(seconds: int | None, quantity: int, changes: Sequence[Change]) -> BookingState:
    """Return the state of a booking after these changes; ``seconds`` is None if it did not begin as a hold."""
    state: BookingState = "confirmed" if seconds is None else "held"
    for change in changes:
        state = _STATE_AFTER.get(change.what, state)
    return "cancelled" if sum(len(change.tickets) for change in changes) == quantity else state


class Booking(Struct, array_like=True, gc=False):
    """What one buyer has, or had. ``available`` and ``version`` are the event's right after it was booked or held.

    ``tickets`` are the last parts of the ids of its tickets; there are none until it is confirmed. ``seconds`` and
    ``expires``, in milliseconds since 1970, are there if it was held first. ``changes`` are there if it has any.
    """

    id: str
    event: str
    quantity: int
    state: BookingState
    tickets: list[str]
    available: int
    version: int
    seconds: int | None = None
    expires: int | None = None
    changes: list[Change] | None = None

    def cancelled(self) -> set[str]:
        """Return those of its tickets that are cancelled."""
        return {ticket for change in self.changes or () for ticket in change.tickets}


class Redemption(Struct, array_like=True, gc=False):
    """A ticket that was used, and when, in milliseconds since 1970."""

    booking: str
    ticket: str
    at: int
