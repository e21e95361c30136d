"""The requests that change events, bookings and tickets. Pure."""

from typing import Any, ClassVar

from msgspec import UNSET, UnsetType

from ticketd.model import HOLD_SECONDS_DEFAULT, REASON_BYTES_MAX, WAIT_SECONDS_DEFAULT, utc
from ticketd.wire.replies import BookingReply, EventReply, TicketReply
from ticketd.wire.requests import fields
from ticketd.wire.requests.base import Request
from ticketd.wire.roles import Role
from ticketd.wire.text import checked_name, checked_text, listed
from ticketd.wire.window import checked_window


class Create(Request, tag="create"):
    """Put a new event on sale."""

    roles: ClassVar[frozenset[Role]] = frozenset({"manager"})
    replies = (EventReply,)
    writes: ClassVar[bool] = True
    minted: ClassVar[str | None] = "id"

    name: fields.EventName
    date: fields.EventDate
    capacity: fields.EventCapacity
    id: fields.NewEventId | UnsetType = UNSET
    available: fields.OnSaleHere | UnsetType = UNSET
    opens: fields.Opens | UnsetType | None = UNSET
    closes: fields.Closes | UnsetType | None = UNSET
    paused: fields.Paused = False
    per_buyer: fields.TicketsPerBuyer | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        checked_name(self.name)
        self.date = utc(self.date)
        self.opens, self.closes = checked_window(self.opens, self.closes)
        if self.available is not UNSET and self.available > self.capacity:
            raise ValueError(f"available must not be more than capacity, {self.capacity}, and it is {self.available}")


class Book(Request, tag="book"):
    """Buy tickets of an event."""

    roles: ClassVar[frozenset[Role]] = frozenset({"seller"})
    replies = (BookingReply,)
    writes: ClassVar[bool] = True
    minted: ClassVar[str | None] = "booking"

    event: fields.EventId
    quantity: fields.HowMany
    booking: fields.NewBookingId | UnsetType = UNSET
    buyer: fields.BuyerRef | UnsetType = UNSET

    def __post_init__(self) -> None:
        fields.check_buyer(self.buyer)


class Hold(Request, tag="hold"):
    """Keep tickets of an event for a buyer who is still paying."""

    roles: ClassVar[frozenset[Role]] = frozenset({"seller"})
    replies = (BookingReply,)
    writes: ClassVar[bool] = True
    minted: ClassVar[str | None] = "booking"

    event: fields.EventId
    quantity: fields.HowMany
    seconds: fields.HoldSeconds = HOLD_SECONDS_DEFAULT
    booking: fields.NewBookingId | UnsetType = UNSET
    buyer: fields.BuyerRef | UnsetType = UNSET

    def __post_init__(self) -> None:
        fields.check_buyer(self.buyer)


class Wait(Request, tag="wait"):
    """Wait for tickets of an event: they are held for this booking when its turn comes."""

    roles: ClassVar[frozenset[Role]] = frozenset({"seller"})
    replies = (BookingReply,)
    writes: ClassVar[bool] = True
    minted: ClassVar[str | None] = "booking"

    event: fields.EventId
    quantity: fields.HowMany
    seconds: fields.OfferSeconds = WAIT_SECONDS_DEFAULT
    booking: fields.NewBookingId | UnsetType = UNSET
    buyer: fields.BuyerRef | UnsetType = UNSET

    def __post_init__(self) -> None:
        fields.check_buyer(self.buyer)


class Extend(Request, tag="extend"):
    """Keep what is held for longer."""

    roles: ClassVar[frozenset[Role]] = frozenset({"seller"})
    replies = (BookingReply,)
    writes: ClassVar[bool] = True

    booking: fields.BookingId
    seconds: fields.MoreSeconds


class Confirm(Request, tag="confirm"):
    """Sell what is held."""

    roles: ClassVar[frozenset[Role]] = frozenset({"seller"})
    replies = (BookingReply,)
    writes: ClassVar[bool] = True

    booking: fields.BookingId
    late: fields.Late = False


class Release(Request, tag="release"):
    """Put what is held back on sale, or leave the waiting list."""

    roles: ClassVar[frozenset[Role]] = frozenset({"seller"})
    replies = (BookingReply,)
    writes: ClassVar[bool] = True

    booking: fields.BookingId


class Cancel(Request, tag="cancel"):
    """Take back tickets that were sold, and put them on sale again."""

    roles: ClassVar[frozenset[Role]] = frozenset({"manager"})
    replies = (BookingReply,)
    writes: ClassVar[bool] = True

    booking: fields.BookingId
    tickets: fields.TicketIds | UnsetType = UNSET


class Reissue(Request, tag="reissue"):
    """Replace a ticket by one with a new id, for the same place."""

    roles: ClassVar[frozenset[Role]] = frozenset({"manager"})
    replies = (TicketReply,)
    writes: ClassVar[bool] = True

    ticket: fields.OldTicket


class Redeem(Request, tag="redeem"):
    """Let the owner of a ticket in, once; or the owners of all valid tickets of a booking."""

    roles: ClassVar[frozenset[Role]] = frozenset({"door"})
    replies = (TicketReply, BookingReply)
    writes: ClassVar[bool] = True
    minted: ClassVar[str | None] = "scan"

    ticket: fields.TicketOrBooking
    event: fields.OnlyEvent | UnsetType = UNSET
    scan: fields.ScanId | UnsetType = UNSET


class Annul(Request, tag="annul"):
    """Take a redemption back, so that the ticket is valid again."""

    roles: ClassVar[frozenset[Role]] = frozenset({"door"})
    replies = (TicketReply,)
    writes: ClassVar[bool] = True
    # It could undo a redemption that came in between.
    repeatable: ClassVar[bool] = False
    outcome_shown_by: ClassVar[str | None] = "ticket"

    ticket: fields.Ticket
    event: fields.OnlyEvent | UnsetType = UNSET
    reason: fields.AnnulReason | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.reason is not UNSET:
            checked_text("reason", self.reason, REASON_BYTES_MAX)


class Amend(Request, tag="amend"):
    """Change an event: its name, date or capacity, or when and to whom it is sold."""

    roles: ClassVar[frozenset[Role]] = frozenset({"manager"})
    replies = (EventReply,)
    writes: ClassVar[bool] = True
    # It could undo what somebody else has changed in between.
    repeatable: ClassVar[bool] = False

    event: fields.EventId
    name: fields.NewName | UnsetType = UNSET
    date: fields.NewDate | UnsetType = UNSET
    capacity: fields.NewCapacity | UnsetType = UNSET
    opens: fields.Opens | UnsetType | None = UNSET
    closes: fields.Closes | UnsetType | None = UNSET
    paused: fields.Paused | UnsetType = UNSET
    per_buyer: fields.TicketsPerBuyer | UnsetType | None = UNSET

    @property
    def given(self) -> dict[str, Any]:
        """The new values, by the names of their fields."""
        values = {name: getattr(self, name) for name in _AMENDED}
        return {name: value for name, value in values.items() if value is not UNSET}

    def __post_init__(self) -> None:
        if not self.given:
            raise ValueError(f"there is nothing to change; amend takes {listed(_AMENDED)}")
        self.opens, self.closes = checked_window(self.opens, self.closes)
        if self.name is not UNSET:
            checked_name(self.name)
        if self.date is not UNSET:
            self.date = utc(self.date)


_AMENDED = [name for name in Amend.__struct_fields__ if name != "event" and name not in Request.__struct_fields__]


class Delete(Request, tag="delete"):
    """Remove an event of which no ticket was ever sold, held or waited for."""

    roles: ClassVar[frozenset[Role]] = frozenset({"manager"})
    replies = (EventReply,)
    writes: ClassVar[bool] = True
    # The second attempt finds nothing.
    repeatable: ClassVar[bool] = False
    outcome_shown_by: ClassVar[str | None] = "event"

    event: fields.EventId
