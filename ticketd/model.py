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
ID_CHARS_MAX = 64
NAME_BYTES_MAX = 200

# The title of a type says what a value must be; error messages and help texts are made of it.
Id = Annotated[
    str,
    Meta(pattern=rf"^[A-Za-z0-9._-]{{1,{ID_CHARS_MAX}}}\Z", title=f"1 to {ID_CHARS_MAX} of A-Z a-z 0-9 . _ -"),
]
Name = Annotated[str, Meta(title=f"1 to {NAME_BYTES_MAX} bytes of text without control characters")]
Date = Annotated[datetime, Meta(tz=True, title="a day and time with its zone, such as 2027-03-11T20:00:00Z")]
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


# None of these can be part of a cycle, so the collector of cycles need not look at them (gc=False).


class Event(Struct, gc=False):
    """An event and how many of its tickets are where.

    ``version`` counts its changes one by one. ``sold_elsewhere`` is the part of ``sold`` that was sold before the
    event came into the ledger, so ``sold - sold_elsewhere`` is the number of its tickets in the ledger that are not
    cancelled. ``original`` is the name, date and capacity it was created with, once they have been amended.
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


class Ticket(Struct, gc=False):
    """The right of one person to enter one event. ``redeemed_at`` is set when it has been used."""

    id: str
    event: str
    booking: str
    state: TicketState
    redeemed_at: datetime | None = None
