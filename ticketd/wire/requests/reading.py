"""The requests that read events, bookings and tickets. Pure."""

from typing import ClassVar

from msgspec import UNSET, UnsetType

from ticketd.wire.replies import BookingReply, BookingsReply, EventReply, EventsReply, PongReply, Reply, TicketReply
from ticketd.wire.requests import fields
from ticketd.wire.requests.base import Request
from ticketd.wire.roles import Role


class List(Request, tag="list"):
    """Show the events and how many of their tickets are left, a page at a time."""

    roles: ClassVar[frozenset[Role]] = frozenset({"reader"})
    replies = (EventsReply,)

    after: fields.AfterEvent | UnsetType = UNSET
    limit: fields.EventsLimit | UnsetType = UNSET


class Show(Request, tag="show"):
    """Show the event, booking or ticket with this id; if several have it, the first in this order."""

    roles: ClassVar[frozenset[Role]] = frozenset({"reader"})
    ledger_roles: ClassVar[frozenset[Role]] = frozenset({"seller", "door"})
    replies = (EventReply, BookingReply, TicketReply)

    id: fields.AnyId
    kind: fields.Kind | UnsetType = UNSET

    @property
    def expects(self) -> tuple[type[Reply], ...]:
        """A kind is the tag of its reply."""
        return tuple(reply for reply in self.replies if self.kind in (UNSET, reply.__struct_config__.tag))


class Watch(Request, tag="watch"):
    """Stream the events, one event or one booking, as they change, until the next line is sent."""

    roles: ClassVar[frozenset[Role]] = frozenset({"reader"})
    ledger_roles: ClassVar[frozenset[Role]] = frozenset({"seller", "door"})
    # A pong is its heartbeat.
    replies = (EventReply, BookingReply, PongReply)
    streams: ClassVar[bool] = True

    event: fields.WatchedEvent | UnsetType = UNSET
    booking: fields.WatchedBooking | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.event and self.booking:
            raise ValueError("watch takes an event or a booking, not both; watch each of them on its own connection")

    @property
    def expects(self) -> tuple[type[Reply], ...]:
        """Of a booking, or of events; and the heartbeat."""
        return (BookingReply if self.booking else EventReply, PongReply)


class Bookings(Request, tag="bookings"):
    """Read the bookings, a page at a time, in the order of their ids."""

    roles: ClassVar[frozenset[Role]] = frozenset({"manager"})
    replies = (BookingsReply,)

    after: fields.AfterBooking | UnsetType = UNSET
    limit: fields.BookingsLimit = fields.BOOKINGS_PER_PAGE_MAX
    event: fields.OfEvent | UnsetType = UNSET
    buyer: fields.OfBuyer | UnsetType = UNSET

    def __post_init__(self) -> None:
        fields.check_buyer(self.buyer)
