"""Events, bookings and tickets, their states and their bounds. Pure: no I/O, no clock, no randomness.

The capacity law, promise 1, holds for every event at every moment::

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
VERSION_MAX = 1_000_000_000_000_000
ID_CHARS_MAX = 64
NAME_BYTES_MAX = 200

# The title of a type says what a value must be; error messages and help texts are made of it.
Id = Annotated[
    str,
    Meta(pattern=rf"^[A-Za-z0-9._-]{{1,{ID_CHARS_MAX}}}\Z", title=f"1 to {ID_CHARS_MAX} of A-Z a-z 0-9 . _ -"),
]
Name = Annotated[str, Meta(title=f"1 to {NAME_BYTES_MAX} bytes of text without control characters")]
Date = Annotated[datetime, Meta(tz=True, title="a day and time with its zone, such as 2027-03-11T20:00:00Z")]
# When something was done. A ledger keeps such times in whole milliseconds, and these it can tell apart exactly.
Moment = Annotated[
    datetime, Meta(tz=True, title="a time from 1970 to 2199 with its zone, such as 2027-03-11T20:00:00Z")
]
_MOMENT_MIN = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT_END = datetime(2200, 1, 1, tzinfo=UTC)
Capacity = Annotated[int, Meta(ge=1, le=CAPACITY_MAX, title=f"a whole number from 1 to {CAPACITY_MAX}")]
Quantity = Annotated[
    int, Meta(ge=1, le=TICKETS_PER_BOOKING_MAX, title=f"a whole number from 1 to {TICKETS_PER_BOOKING_MAX}")
]

Seconds = Annotated[int, Meta(ge=1, le=HOLD_SECONDS_MAX, title=f"a whole number from 1 to {HOLD_SECONDS_MAX}")]

BookingState = Literal["held", "confirmed", "released", "expired", "cancelled"]
TicketState = Literal["valid", "redeemed", "cancelled"]
Pool = Literal["available", "held", "sold"]

# Characters that could forge a line or turn text around on a terminal: controls (C0, DEL, C1), line and paragraph
# separators, bidi embeddings, overrides and isolates (Unicode Standard Annex 9); and halves of surrogate pairs.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def checked_name(name: str) -> str:
    """Return the name as it is, or raise ValueError with what is wrong with it."""
    if any("\ud800" <= char <= "\udfff" for char in name):
        raise ValueError("name must be text in UTF-8")
    if unsafe := UNSAFE.search(name):
        raise ValueError(f"name must not have the control or direction character U+{ord(unsafe[0]):04X} in it")
    size = len(name.encode())
    if not 1 <= size <= NAME_BYTES_MAX:
        raise ValueError(f"name must be 1 to {NAME_BYTES_MAX} bytes in UTF-8, and it has {size}")
    if not unicodedata.is_normalized("NFC", name):
        raise ValueError("name must be in Unicode NFC, where an accent and its letter are one; normalize it")
    return name


def printable(text: str) -> str:
    """Return text with what could forge a line or steer a terminal escaped as ``\\u001b``; it stays valid in JSON."""
    return UNSAFE.sub(lambda unsafe: f"\\u{ord(unsafe[0]):04x}", text)


def utc(date: datetime) -> datetime:
    """Return the same moment in UTC, or raise ValueError where UTC has no year from 1 to 9999 for it."""
    try:
        return date.astimezone(UTC)
    except OverflowError:
        raise ValueError("date must be within the years 1 to 9999 in UTC") from None


def checked_moment(time: datetime, field: str) -> datetime:
    """Return the moment in UTC as a ledger keeps it, or raise ValueError that names the field if it is too far off."""
    if not _MOMENT_MIN <= time < _MOMENT_END:
        raise ValueError(f"{field} must be within the years 1970 to 2199 in UTC")
    time = time.astimezone(UTC)
    return time.replace(microsecond=time.microsecond // 1_000 * 1_000)


# None of these can be part of a cycle, so the collector of cycles need not look at them (gc=False).


class Event(Struct, gc=False):
    """An event and how many of its tickets are where.

    ``version`` counts its changes one by one. ``sold_elsewhere`` is the part of ``sold`` whose bookings are not in the
    ledger, so ``sold - sold_elsewhere`` is the number of its tickets in the ledger that are not cancelled; ``restore``
    brings the bookings of some of it. ``original`` is the name, date and capacity it was created with, once they have
    been amended.
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

    def move(self, quantity: int, source: Pool, target: Pool) -> None:
        """Move tickets from one pool to another. The caller has seen that they are there."""
        left = getattr(self, source) - quantity
        assert quantity > 0
        assert left >= 0
        setattr(self, source, left)
        setattr(self, target, getattr(self, target) + quantity)
        self.version += 1


class Change(Struct, array_like=True, gc=False):
    """What became of a booking after it was made: by which command (or ``expire``), and the event right after that.

    ``tickets`` are those that a ``cancel`` cancelled.
    """

    what: Literal["confirm", "release", "expire", "cancel"]
    available: int
    version: int
    tickets: Sequence[str] = ()


_STATE_AFTER: dict[str, BookingState] = {"confirm": "confirmed", "release": "released", "expire": "expired"}
_CHANGES_OF: dict[BookingState, tuple[str, ...]] = {"held": ("confirm", "release", "expire"), "confirmed": ("cancel",)}


def state_after(seconds: int | None, quantity: int, changes: Sequence[Change]) -> BookingState:
    """Return the state of a booking after these changes; ``seconds`` is None for what was not held first."""
    state: BookingState = "confirmed" if seconds is None else "held"
    for change in changes:
        state = _STATE_AFTER.get(change.what, state)
    return "cancelled" if sum(len(change.tickets) for change in changes) == quantity else state


def check_past(seconds: int | None, version: int, tickets: Sequence[str], changes: Sequence[Change]) -> None:
    """Raise ValueError unless this can be the past of a booking made at ``version``, or of some of its tickets.

    The message begins with ``tickets`` or ``changes``, whichever is wrong.
    """
    left = set(tickets)
    if len(left) < len(tickets):
        raise ValueError("tickets must not have the same id twice")
    state: BookingState = "confirmed" if seconds is None else "held"
    for change in changes:
        if change.what not in _CHANGES_OF.get(state, ()):
            raise ValueError(f"changes must not have {change.what} where the booking is {state}")
        if not version < change.version <= VERSION_MAX or not 0 <= change.available <= CAPACITY_MAX:
            raise ValueError("changes must be in the order of their versions, each with what was available after it")
        if (change.what == "cancel") != bool(change.tickets):
            raise ValueError("changes must name the tickets of each cancel, and of nothing else")
        if not left.issuperset(change.tickets) or len(set(change.tickets)) < len(change.tickets):
            raise ValueError("changes must cancel only what is in tickets, and each of them once")
        left.difference_update(change.tickets)
        version = change.version
        state = _STATE_AFTER.get(change.what, state)
    if (state == "confirmed") != bool(tickets):
        raise ValueError("tickets must be those of what was booked or confirmed; there are none before that")


class Booking(Struct, gc=False):
    """What one buyer has, or had. ``available`` and ``version`` are the event's right after it was booked or held.

    ``seconds`` and ``expires`` are set for what was held first. ``tickets`` is empty until it is confirmed.
    """

    id: str
    event: str
    quantity: int
    state: BookingState
    tickets: list[str]
    available: int
    version: int
    seconds: int | None = None
    expires: datetime | None = None
    changes: Sequence[Change] = ()

    @property
    def whole(self) -> bool:
        """Whether it has all its tickets; those of a large one are restored in parts."""
        return len(self.tickets) == self.quantity or self.state not in ("confirmed", "cancelled")


class Ticket(Struct, gc=False):
    """The right of one person to enter one event. ``redeemed_at`` is set when it has been used."""

    id: str
    event: str
    booking: str
    state: TicketState
    redeemed_at: datetime | None = None
