"""The requests: one Struct per command, with everything that both sides must know about it. Pure.

A command is defined by its Struct and nowhere else. The ``help`` reply, the words that people type, the subcommands of
ticketctl and the tables of protocol.md all come from its docstring and from the order, types, bounds and descriptions
of its fields. Its class variables say how a client may use it.
"""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ticketd.model import (
    BUYER_BYTES_MAX,
    CAPACITY_MAX,
    HOLD_SECONDS_DEFAULT,
    REASON_BYTES_MAX,
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
    checked_name,
    checked_text,
    utc,
)
from ticketd.wire.replies import (
    BookingReply,
    BookingsReply,
    EventReply,
    EventsReply,
    HelpReply,
    PongReply,
    ReadyReply,
    Reply,
    StatsReply,
    TicketReply,
    WelcomeReply,
)
from ticketd.wire.roles import ANYBODY, Role
from ticketd.wire.schema import listed
from ticketd.wire.window import checked_window

EVENTS_PER_PAGE_MAX = 1_000
BOOKINGS_PER_PAGE_MAX = 100
# So many fit into a line, however long their ids are.
TICKETS_PER_CANCEL_MAX = 190
TOKEN_CHARS_MIN = 20
TOKEN_CHARS_MAX = 200
# No reply is longer.
REPLY_BYTES_MAX = 1024 * 1024

BookingId = Annotated[Id, Meta(description="the id of the booking")]
NewBookingId = Annotated[Id, Meta(description="the id of the new booking; sent again, it books nothing new")]
EventId = Annotated[Id, Meta(description="the id of the event", extra={"completes": "events"})]
OnlyEvent = Annotated[Id, Meta(description="refuse a ticket of another event", extra={"completes": "events"})]
TicketIds = Annotated[
    list[TicketId],
    Meta(
        min_length=1,
        max_length=TICKETS_PER_CANCEL_MAX,
        title=f"1 to {TICKETS_PER_CANCEL_MAX} ids of tickets",
        description="only these tickets; all of the booking if left out",
    ),
]


Opens = Annotated[Date, Meta(description="when its sale begins; without it, at once")]
Closes = Annotated[Date, Meta(description="when its sale ends; without it, never")]
Paused = Annotated[bool, Meta(title="true or false", description="whether its sale is paused")]
Limit = Annotated[PerBuyer, Meta(description="how many tickets one buyer may have; without it, any number")]
BuyerRef = Annotated[
    Buyer, Meta(description="who buys: an order number or an address; needed if the event limits tickets per buyer")
]


def _checked_buyer(buyer: str | UnsetType) -> None:
    if buyer is not UNSET:
        checked_text("buyer", buyer, BUYER_BYTES_MAX)


class Request(Struct, tag_field="cmd", forbid_unknown_fields=True, gc=False):
    """The base of all requests. Each subclass is a command, and its tag is the name of the command."""

    # It needs one of these roles. ``ledger_roles`` are those that it needs if memory cannot answer it, if they differ.
    roles: ClassVar[frozenset[Role]]
    ledger_roles: ClassVar[frozenset[Role] | None] = None
    # The kinds of reply that answer it. Besides them, any command may be answered by an error.
    replies: ClassVar[tuple[type[Reply], ...]]
    # Whether it may change the ledger. If so, and no reply comes, the outcome is unknown.
    writes: ClassVar[bool] = False
    # Whether it is done only once however often it is sent with the same ids. If not, only a person may send it again.
    repeatable: ClassVar[bool] = True
    # The field to ``show`` to learn the outcome, if sending it again would not show it.
    outcome_shown_by: ClassVar[str | None] = None
    # Whether it is answered by a stream of replies, until the client sends another line.
    streams: ClassVar[bool] = False
    # The field with the id of what it creates. The id is minted if the field is left out.
    minted: ClassVar[str | None] = None

    @property
    def expects(self) -> tuple[type[Reply], ...]:
        """The kinds of reply that can answer it as it is, with the fields that it has."""
        return self.replies


class List(Request, tag="list"):
    """Show the events and how many of their tickets are left, a page at a time."""

    roles: ClassVar[frozenset[Role]] = frozenset({"reader"})
    replies = (EventsReply,)

    after: (
        Annotated[Id, Meta(description="only events listed after the one with this id", extra={"completes": "events"})]
        | UnsetType
    ) = UNSET
    limit: (
        Annotated[
            int,
            Meta(ge=1, le=EVENTS_PER_PAGE_MAX, description=f"how many at most; {EVENTS_PER_PAGE_MAX:,} if left out"),
        ]
        | UnsetType
    ) = UNSET


class Show(Request, tag="show"):
    """Show the event, booking or ticket with this id; if several have it, the first in this order."""

    roles: ClassVar[frozenset[Role]] = frozenset({"reader"})
    ledger_roles: ClassVar[frozenset[Role]] = frozenset({"seller", "door"})
    replies = (EventReply, BookingReply, TicketReply)

    id: Annotated[
        TicketId, Meta(description="the id of an event, a booking or a ticket", extra={"completes": "events"})
    ]
    kind: (
        Annotated[Literal["event", "booking", "ticket"], Meta(description="which of them, if several have this id")]
        | UnsetType
    ) = UNSET

    @property
    def expects(self) -> tuple[type[Reply], ...]:
        """A kind is the tag of its reply."""
        return tuple(reply for reply in self.replies if self.kind in (UNSET, reply.__struct_config__.tag))


class Create(Request, tag="create"):
    """Put a new event on sale."""

    roles: ClassVar[frozenset[Role]] = frozenset({"manager"})
    replies = (EventReply,)
    writes: ClassVar[bool] = True
    minted: ClassVar[str | None] = "id"

    name: Annotated[Name, Meta(description="what the event is called")]
    date: Annotated[Date, Meta(description="when it begins")]
    capacity: Annotated[Capacity, Meta(description="how many tickets there are")]
    id: Annotated[Id, Meta(description="the id of the new event; sent again, it creates nothing new")] | UnsetType = (
        UNSET
    )
    available: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=CAPACITY_MAX,
                title="a whole number from 0 to the capacity",
                description="how many of them are on sale here; the others count as sold elsewhere",
            ),
        ]
        | UnsetType
    ) = UNSET
    opens: Opens | UnsetType | None = UNSET
    closes: Closes | UnsetType | None = UNSET
    paused: Paused = False
    per_buyer: Limit | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        """Check what types cannot express; msgspec turns a ValueError into a ValidationError."""
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

    event: EventId
    quantity: Annotated[Quantity, Meta(description="how many tickets")]
    booking: NewBookingId | UnsetType = UNSET
    buyer: BuyerRef | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Check what types cannot express; msgspec turns a ValueError into a ValidationError."""
        _checked_buyer(self.buyer)


class Hold(Request, tag="hold"):
    """Keep tickets of an event for a buyer who is still paying."""

    roles: ClassVar[frozenset[Role]] = frozenset({"seller"})
    replies = (BookingReply,)
    writes: ClassVar[bool] = True
    minted: ClassVar[str | None] = "booking"

    event: EventId
    quantity: Annotated[Quantity, Meta(description="how many tickets")]
    seconds: Annotated[Seconds, Meta(description=f"for how long; {HOLD_SECONDS_DEFAULT} if left out")] = (
        HOLD_SECONDS_DEFAULT
    )
    booking: NewBookingId | UnsetType = UNSET
    buyer: BuyerRef | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Check what types cannot express; msgspec turns a ValueError into a ValidationError."""
        _checked_buyer(self.buyer)


class Extend(Request, tag="extend"):
    """Keep what is held for longer."""

    roles: ClassVar[frozenset[Role]] = frozenset({"seller"})
    replies = (BookingReply,)
    writes: ClassVar[bool] = True

    booking: BookingId
    seconds: Annotated[Seconds, Meta(description="for how long from now; the daemon limits how long in all")]


class Confirm(Request, tag="confirm"):
    """Sell what is held."""

    roles: ClassVar[frozenset[Role]] = frozenset({"seller"})
    replies = (BookingReply,)
    writes: ClassVar[bool] = True

    booking: BookingId
    late: Annotated[
        bool, Meta(title="true or false", description="also if the hold has run out and its tickets are still there")
    ] = False


class Release(Request, tag="release"):
    """Put what is held back on sale."""

    roles: ClassVar[frozenset[Role]] = frozenset({"seller"})
    replies = (BookingReply,)
    writes: ClassVar[bool] = True

    booking: BookingId


class Cancel(Request, tag="cancel"):
    """Take back tickets that were sold, and put them on sale again."""

    roles: ClassVar[frozenset[Role]] = frozenset({"manager"})
    replies = (BookingReply,)
    writes: ClassVar[bool] = True

    booking: BookingId
    tickets: TicketIds | UnsetType = UNSET


class Reissue(Request, tag="reissue"):
    """Replace a ticket by one with a new id, for the same place."""

    roles: ClassVar[frozenset[Role]] = frozenset({"manager"})
    replies = (TicketReply,)
    writes: ClassVar[bool] = True

    ticket: Annotated[TicketId, Meta(description="the id of the old ticket")]


class Redeem(Request, tag="redeem"):
    """Let the owner of a ticket in, once; or the owners of all valid tickets of a booking."""

    roles: ClassVar[frozenset[Role]] = frozenset({"door"})
    replies = (TicketReply, BookingReply)
    writes: ClassVar[bool] = True
    minted: ClassVar[str | None] = "scan"

    ticket: Annotated[TicketId, Meta(description="the id of the ticket, or of the booking")]
    event: OnlyEvent | UnsetType = UNSET
    scan: Annotated[Id, Meta(description="the id of this scan; sent again, it lets nobody else in")] | UnsetType = UNSET


class Annul(Request, tag="annul"):
    """Take a redemption back, so that the ticket is valid again."""

    roles: ClassVar[frozenset[Role]] = frozenset({"door"})
    replies = (TicketReply,)
    writes: ClassVar[bool] = True
    # It could undo a redemption that came in between.
    repeatable: ClassVar[bool] = False
    outcome_shown_by: ClassVar[str | None] = "ticket"

    ticket: Annotated[TicketId, Meta(description="the id of the ticket")]
    event: OnlyEvent | UnsetType = UNSET
    reason: Annotated[Reason, Meta(description="why; it stays in the history of the ticket")] | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Check what types cannot express; msgspec turns a ValueError into a ValidationError."""
        if self.reason is not UNSET:
            checked_text("reason", self.reason, REASON_BYTES_MAX)


class Amend(Request, tag="amend"):
    """Change an event: its name, date or capacity, or when and to whom it is sold."""

    roles: ClassVar[frozenset[Role]] = frozenset({"manager"})
    replies = (EventReply,)
    writes: ClassVar[bool] = True
    # It could undo what somebody else has changed in between.
    repeatable: ClassVar[bool] = False

    event: EventId
    name: Annotated[Name, Meta(description="the new name")] | UnsetType = UNSET
    date: Annotated[Date, Meta(description="the new date and time")] | UnsetType = UNSET
    capacity: (
        Annotated[Capacity, Meta(description="the new number of tickets; at least as many as are sold and held")]
        | UnsetType
    ) = UNSET
    opens: Opens | UnsetType | None = UNSET
    closes: Closes | UnsetType | None = UNSET
    paused: Paused | UnsetType = UNSET
    per_buyer: Limit | UnsetType | None = UNSET

    @property
    def given(self) -> dict[str, Any]:
        """The new values, by the names of their fields."""
        values = {name: getattr(self, name) for name in self.__struct_fields__ if name != "event"}
        return {name: value for name, value in values.items() if value is not UNSET}

    def __post_init__(self) -> None:
        """Check what types cannot express; msgspec turns a ValueError into a ValidationError."""
        if not self.given:
            fields = listed(name for name in self.__struct_fields__ if name != "event")
            raise ValueError(f"there is nothing to change; amend takes {fields}")
        self.opens, self.closes = checked_window(self.opens, self.closes)
        if self.name is not UNSET:
            checked_name(self.name)
        if self.date is not UNSET:
            self.date = utc(self.date)


class Delete(Request, tag="delete"):
    """Remove an event whose tickets were never sold or held."""

    roles: ClassVar[frozenset[Role]] = frozenset({"manager"})
    replies = (EventReply,)
    writes: ClassVar[bool] = True
    # The second attempt finds nothing.
    repeatable: ClassVar[bool] = False
    outcome_shown_by: ClassVar[str | None] = "event"

    event: EventId


class Watch(Request, tag="watch"):
    """Stream the events, or one event, as they change, until the next line is sent."""

    roles: ClassVar[frozenset[Role]] = frozenset({"reader"})
    # A pong is its heartbeat.
    replies = (EventReply, PongReply)
    streams: ClassVar[bool] = True

    event: (
        Annotated[Id, Meta(description="only this event", extra={"positional": True, "completes": "events"})]
        | UnsetType
    ) = UNSET


class Bookings(Request, tag="bookings"):
    """Read the bookings, a page at a time, in the order of their ids."""

    roles: ClassVar[frozenset[Role]] = frozenset({"manager"})
    replies = (BookingsReply,)

    after: Annotated[Id, Meta(description="only bookings after the one with this id")] | UnsetType = UNSET
    limit: Annotated[
        int, Meta(ge=1, le=BOOKINGS_PER_PAGE_MAX, description=f"how many at most; {BOOKINGS_PER_PAGE_MAX} if left out")
    ] = BOOKINGS_PER_PAGE_MAX
    event: Annotated[Id, Meta(description="only those of this event", extra={"completes": "events"})] | UnsetType = (
        UNSET
    )
    buyer: Annotated[Buyer, Meta(description="only those of this buyer")] | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Check what types cannot express; msgspec turns a ValueError into a ValidationError."""
        _checked_buyer(self.buyer)


class Stats(Request, tag="stats"):
    """Show what the daemon is doing."""

    roles: ClassVar[frozenset[Role]] = frozenset({"admin"})
    replies = (StatsReply,)


class Auth(Request, tag="auth"):
    """Say who you are, with a token."""

    roles: ClassVar[frozenset[Role]] = ANYBODY
    replies = (WelcomeReply,)

    token: Annotated[
        str,
        Meta(
            pattern=rf"^[A-Za-z0-9_-]{{{TOKEN_CHARS_MIN},{TOKEN_CHARS_MAX}}}\Z",
            title="a token as ticketd access add prints it",
            description="the secret that whoever runs the daemon gave you",
            extra={"secret": True},
        ),
    ]


class Ping(Request, tag="ping"):
    """Check whether the daemon answers."""

    roles: ClassVar[frozenset[Role]] = ANYBODY
    replies = (PongReply,)


class Ready(Request, tag="ready"):
    """Check whether the daemon can sell: whether its ledger takes commits now."""

    roles: ClassVar[frozenset[Role]] = ANYBODY
    replies = (ReadyReply,)


class Help(Request, tag="help"):
    """Show the commands, or one of them with its fields."""

    roles: ClassVar[frozenset[Role]] = ANYBODY
    replies = (HelpReply,)

    command: (
        Annotated[
            str,
            Meta(
                title="a command",
                description="the command to explain",
                extra={"positional": True, "completes": "commands"},
            ),
        ]
        | UnsetType
    ) = UNSET
