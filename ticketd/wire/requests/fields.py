"""The types of the fields of requests: their bounds, and what they are for. Pure.

A description says what a field is for, and a title what a value must be. ``extra`` says how people type it: what a
shell ``completes`` there, whether an optional field is ``positional``, and whether it is ``secret``.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from ticketd.model import (
    BUYER_BYTES_MAX,
    CAPACITY_MAX,
    HOLD_SECONDS_DEFAULT,
    WAIT_SECONDS_DEFAULT,
    Buyer,
    Capacity,
    Date,
    Id,
    Name,
    PerBuyer,
    Quantity,
    Reason,
    Seconds,
    TicketId,
)
from ticketd.wire.text import checked_text

EVENTS_PER_PAGE_MAX = 1_000
BOOKINGS_PER_PAGE_MAX = 100
# So many fit into a line, however long their ids are.
TICKETS_PER_CANCEL_MAX = 190
TOKEN_CHARS_MIN = 20
TOKEN_CHARS_MAX = 200

# Events.
EventId = Annotated[Id, Meta(description="the id of the event", extra={"completes": "events"})]
NewEventId = Annotated[
    Id, Meta(description="the id of the new event, minted if left out; sent again, it creates nothing new")
]
EventName = Annotated[Name, Meta(description="what the event is called")]
EventDate = Annotated[Date, Meta(description="when it begins")]
EventCapacity = Annotated[Capacity, Meta(description="how many tickets there are")]
OnSaleHere = Annotated[
    int,
    Meta(
        ge=0,
        le=CAPACITY_MAX,
        title="a whole number from 0 to the capacity",
        description="how many of them are on sale here; the others count as sold elsewhere",
    ),
]
NewName = Annotated[Name, Meta(description="the new name")]
NewDate = Annotated[Date, Meta(description="the new date and time")]
NewCapacity = Annotated[Capacity, Meta(description="the new number of tickets; at least as many as are sold and held")]
Opens = Annotated[Date, Meta(description="when its sale begins; without it, at once")]
Closes = Annotated[Date, Meta(description="when its sale ends; without it, never")]
Paused = Annotated[bool, Meta(title="true or false", description="whether its sale is paused")]
TicketsPerBuyer = Annotated[PerBuyer, Meta(description="how many tickets one buyer may have; without it, any number")]

# Bookings.
BookingId = Annotated[Id, Meta(description="the id of the booking", extra={"completes": "bookings"})]
NewBookingId = Annotated[
    Id, Meta(description="the id of the new booking, minted if left out; sent again, it books nothing new")
]
HowMany = Annotated[Quantity, Meta(description="how many tickets")]
BuyerRef = Annotated[
    Buyer, Meta(description="who buys: an order number or an address; needed if the event limits tickets per buyer")
]
HoldSeconds = Annotated[Seconds, Meta(description=f"for how long; {HOLD_SECONDS_DEFAULT} if left out")]
OfferSeconds = Annotated[
    Seconds, Meta(description=f"how long the tickets are held when its turn comes; {WAIT_SECONDS_DEFAULT} if left out")
]
MoreSeconds = Annotated[Seconds, Meta(description="for how long from now; the daemon limits how long in all")]
Late = Annotated[
    bool, Meta(title="true or false", description="also if the hold has run out and its tickets are still there")
]
TicketIds = Annotated[
    list[TicketId],
    Meta(
        min_length=1,
        max_length=TICKETS_PER_CANCEL_MAX,
        title=f"1 to {TICKETS_PER_CANCEL_MAX} ids of tickets",
        description="only these tickets; all of the booking if left out",
    ),
]

# Tickets.
Ticket = Annotated[TicketId, Meta(description="the id of the ticket", extra={"completes": "tickets"})]
OldTicket = Annotated[TicketId, Meta(description="the id of the old ticket", extra={"completes": "tickets"})]
TicketOrBooking = Annotated[
    TicketId, Meta(description="the id of the ticket, or of the booking", extra={"completes": "tickets"})
]
OnlyEvent = Annotated[Id, Meta(description="refuse a ticket of another event", extra={"completes": "events"})]
ScanId = Annotated[Id, Meta(description="the id of this scan, minted if left out; sent again, it lets nobody else in")]
AnnulReason = Annotated[Reason, Meta(description="why; it stays in the history of the ticket")]

# Reading.
AnyId = Annotated[TicketId, Meta(description="the id of an event, a booking or a ticket", extra={"completes": "ids"})]
Kind = Annotated[Literal["event", "booking", "ticket"], Meta(description="which of them, if several have this id")]
AfterEvent = Annotated[
    Id, Meta(description="only events listed after the one with this id", extra={"completes": "events"})
]
EventsLimit = Annotated[
    int, Meta(ge=1, le=EVENTS_PER_PAGE_MAX, description=f"how many at most; {EVENTS_PER_PAGE_MAX:,} if left out")
]
AfterBooking = Annotated[Id, Meta(description="only bookings after the one with this id")]
BookingsLimit = Annotated[
    int, Meta(ge=1, le=BOOKINGS_PER_PAGE_MAX, description=f"how many at most; {BOOKINGS_PER_PAGE_MAX} if left out")
]
OfEvent = Annotated[Id, Meta(description="only those of this event", extra={"completes": "events"})]
OfBuyer = Annotated[Buyer, Meta(description="only those of this buyer")]
WatchedEvent = Annotated[Id, Meta(description="only this event", extra={"positional": True, "completes": "events"})]
WatchedBooking = Annotated[Id, Meta(description="this booking instead of events", extra={"completes": "bookings"})]

# The connection and the daemon.
TAG_CHARS_MAX = 64
Tag = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=TAG_CHARS_MAX,
        title=f"1 to {TAG_CHARS_MAX} characters",
        description="a text of your own, which the replies repeat",
    ),
]
Token = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z0-9_-]{{{TOKEN_CHARS_MIN},{TOKEN_CHARS_MAX}}}\Z",
        title="a token as ticketd access add prints it",
        description="the secret that whoever runs the daemon gave you",
        extra={"secret": True},
    ),
]
CommandName = Annotated[
    str,
    Meta(
        title="a command",
        description="the command to explain",
        extra={"positional": True, "completes": "commands"},
    ),
]


def check_buyer(buyer: str | UnsetType) -> None:
    """Check what the type of a buyer cannot express. Raises ValueError, which says what is wrong."""
    if buyer is not UNSET:
        checked_text("buyer", buyer, BUYER_BYTES_MAX)
