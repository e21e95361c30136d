"""Every request and every reply, declared once, and their JSON. Pure; knows nothing of sockets or stores.

A request Struct is the only place where a command is declared. Its docstring, its fields in their order, their types,
bounds and descriptions make the ``help`` reply, the words that people type, the subcommands of ticketctl and the
tables of protocol.md.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ticketd.declared import Command, listed, shown
from ticketd.errors import Code, TicketError
from ticketd.model import (
    CAPACITY_MAX,
    HOLD_SECONDS_DEFAULT,
    TICKETS_PER_BOOKING_MAX,
    VERSION_MAX,
    BookingState,
    Capacity,
    Change,
    Date,
    Id,
    Moment,
    Name,
    Quantity,
    Seconds,
    TicketState,
    check_past,
    checked_moment,
    checked_name,
    utc,
)

PORT = 8080
FRAME_BYTES_MAX = 16 * 1024
EVENTS_PER_PAGE_MAX = 100_000
ROWS_PER_PAGE_MAX = 1_000
# Fewer, since each may have a thousand tickets.
BOOKINGS_PER_PAGE_MAX = 100
# No more fit into a line.
TICKETS_PER_CANCEL_MAX = 400
# So many fit into a line whatever their ids, and if each was cancelled by itself.
TICKETS_PER_RESTORE_MAX = 80

BookingId = Annotated[Id, Meta(description="the id of the booking")]
NewBookingId = Annotated[Id, Meta(description="the id that the booking shall have; sent again, it books nothing new")]
EventId = Annotated[Id, Meta(description="the id of the event", extra={"completes": "events"})]
TicketIds = Annotated[
    list[Id],
    Meta(
        min_length=1,
        max_length=TICKETS_PER_CANCEL_MAX,
        title=f"1 to {TICKETS_PER_CANCEL_MAX} ids of tickets",
        description="only these tickets; all of the booking without it",
    ),
]
RowsPerPage = Annotated[
    int,
    Meta(
        ge=1,
        le=ROWS_PER_PAGE_MAX,
        title=f"a whole number from 1 to {ROWS_PER_PAGE_MAX}",
        description="how many at the most",
    ),
]


class _Request(Struct, tag_field="cmd", forbid_unknown_fields=True, gc=False):
    pass


class List(_Request, tag="list"):
    """Show the events and how many of their tickets are left."""

    after: (
        Annotated[Id, Meta(description="only events listed after the event of this id", extra={"completes": "events"})]
        | UnsetType
    ) = UNSET
    limit: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=EVENTS_PER_PAGE_MAX,
                title=f"a whole number from 1 to {EVENTS_PER_PAGE_MAX}",
                description="how many events at the most; all without it",
            ),
        ]
        | UnsetType
    ) = UNSET


class Show(_Request, tag="show"):
    """Show one event, booking or ticket, whichever has this id, looked for in this order."""

    id: Annotated[Id, Meta(description="the id of an event, a booking or a ticket", extra={"completes": "events"})]


class Create(_Request, tag="create"):
    """Put a new event on sale."""

    name: Annotated[Name, Meta(description="what the event is called")]
    date: Annotated[Date, Meta(description="when it begins")]
    capacity: Annotated[Capacity, Meta(description="how many tickets there are")]
    id: (
        Annotated[Id, Meta(description="the id that the event shall have; sent again, it creates nothing new")]
        | UnsetType
    ) = UNSET
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
    version: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=VERSION_MAX,
                title=f"a whole number from 0 to {VERSION_MAX}",
                description="its version so far, if it comes from another ledger; 0 without it",
            ),
        ]
        | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        """Check what types cannot say; msgspec makes a ValidationError of a ValueError."""
        checked_name(self.name)
        self.date = utc(self.date)
        if self.available is not UNSET and self.available > self.capacity:
            raise ValueError(f"available must not be more than capacity, {self.capacity}, and it is {self.available}")


class Book(_Request, tag="book"):
    """Buy tickets of an event."""

    event: EventId
    quantity: Annotated[Quantity, Meta(description="how many tickets")]
    booking: NewBookingId | UnsetType = UNSET


class Hold(_Request, tag="hold"):
    """Keep tickets of an event for a buyer who is still paying."""

    event: EventId
    quantity: Annotated[Quantity, Meta(description="how many tickets")]
    seconds: Annotated[Seconds, Meta(description="for how long")] = HOLD_SECONDS_DEFAULT
    booking: NewBookingId | UnsetType = UNSET


class Confirm(_Request, tag="confirm"):
    """Sell what is held."""

    booking: BookingId


class Release(_Request, tag="release"):
    """Put what is held back on sale."""

    booking: BookingId


class Cancel(_Request, tag="cancel"):
    """Take back tickets that were sold, and put them on sale again."""

    booking: BookingId
    tickets: TicketIds | UnsetType = UNSET


class Redeem(_Request, tag="redeem"):
    """Let the owner of a ticket in, once."""

    ticket: Annotated[Id, Meta(description="the id of the ticket")]
    at: (
        Annotated[Moment, Meta(description="when it was let in, if that was elsewhere; sent again, it changes nothing")]
        | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        """Check what types cannot say; msgspec makes a ValidationError of a ValueError."""
        if self.at is not UNSET:
            self.at = checked_moment(self.at, "at")


class Amend(_Request, tag="amend"):
    """Change the name, the date or the capacity of an event."""

    event: EventId
    name: Annotated[Name, Meta(description="what it is called from now on")] | UnsetType = UNSET
    date: Annotated[Date, Meta(description="when it begins now")] | UnsetType = UNSET
    capacity: (
        Annotated[Capacity, Meta(description="how many tickets there are now; not fewer than are sold and held")]
        | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        """Check what types cannot say; msgspec makes a ValidationError of a ValueError."""
        if self.name is UNSET and self.date is UNSET and self.capacity is UNSET:
            raise ValueError("amend needs name, date or capacity, else there is nothing to change")
        if self.name is not UNSET:
            checked_name(self.name)
        if self.date is not UNSET:
            self.date = utc(self.date)


class Watch(_Request, tag="watch"):
    """Follow the events, or one, as they change, until the next line is sent."""

    event: (
        Annotated[
            Id,
            Meta(description="only this event", extra={"positional": True, "completes": "events"}),
        ]
        | UnsetType
    ) = UNSET


class Bookings(_Request, tag="bookings"):
    """Read the bookings of the ledger, a page at a time, in the order of their ids."""

    after: Annotated[Id, Meta(description="only bookings after the one of this id")] | UnsetType = UNSET
    limit: Annotated[
        int,
        Meta(
            ge=1,
            le=BOOKINGS_PER_PAGE_MAX,
            title=f"a whole number from 1 to {BOOKINGS_PER_PAGE_MAX}",
            description="how many at the most",
        ),
    ] = BOOKINGS_PER_PAGE_MAX


class Tickets(_Request, tag="tickets"):
    """Read the tickets of the ledger, a page at a time, in the order of their ids."""

    after: Annotated[Id, Meta(description="only tickets after the one of this id")] | UnsetType = UNSET
    limit: RowsPerPage = ROWS_PER_PAGE_MAX


class Restore(_Request, tag="restore"):
    """Take in a booking of another ledger as it is there."""

    booking: BookingId
    event: EventId
    quantity: Annotated[Quantity, Meta(description="how many tickets")]
    available: Annotated[
        int,
        Meta(
            ge=0,
            le=CAPACITY_MAX,
            title=f"a whole number from 0 to {CAPACITY_MAX}",
            description="what was left of the event right after it was made",
        ),
    ]
    version: Annotated[
        int,
        Meta(
            ge=1,
            le=VERSION_MAX,
            title=f"a whole number from 1 to {VERSION_MAX}",
            description="the version of the event right after it was made",
        ),
    ]
    seconds: Annotated[Seconds, Meta(description="for how long it was held, if it was")] | UnsetType = UNSET
    expires: Annotated[Moment, Meta(description="until when it was held, if it was")] | UnsetType = UNSET
    changes: (
        Annotated[
            list[Change],
            Meta(
                title="an array with [what, available, version, tickets] for each change",
                description="what became of it since, as far as it is about these tickets",
                extra={"json": True},
            ),
        ]
        | UnsetType
    ) = UNSET
    tickets: (
        Annotated[
            list[Id],
            Meta(
                min_length=1,
                max_length=TICKETS_PER_RESTORE_MAX,
                title=f"1 to {TICKETS_PER_RESTORE_MAX} ids of tickets",
                description="its tickets, if it has any; if they are more, each part with a request of its own",
            ),
        ]
        | UnsetType
    ) = UNSET
    before: (
        Annotated[
            int,
            Meta(
                ge=0,
                lt=TICKETS_PER_BOOKING_MAX,
                title=f"a whole number from 0 to {TICKETS_PER_BOOKING_MAX - 1}",
                description="how many of its tickets came in earlier parts; 0 without it",
            ),
        ]
        | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        """Check what types cannot say; msgspec makes a ValidationError of a ValueError."""
        if (self.seconds is UNSET) != (self.expires is UNSET):
            raise ValueError("expires must be given with seconds, for what was held first, and only then")
        if self.expires is not UNSET:
            self.expires = checked_moment(self.expires, "expires")
        seconds, tickets, changes = self.seconds or None, self.tickets or [], self.changes or []
        check_past(seconds, self.version, tickets, changes)
        if (self.before or 0) + len(tickets) > self.quantity:
            raise ValueError(f"tickets must not be more than quantity, {self.quantity}, with those before them")


class Stats(_Request, tag="stats"):
    """Show what the daemon is doing."""


class Ping(_Request, tag="ping"):
    """See whether the daemon answers."""


class Help(_Request, tag="help"):
    """Show the commands, or one of them with its fields."""

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


Request = (
    List
    | Show
    | Create
    | Book
    | Hold
    | Confirm
    | Release
    | Cancel
    | Redeem
    | Amend
    | Watch
    | Bookings
    | Tickets
    | Restore
    | Stats
    | Ping
    | Help
)


class _Reply(Struct, tag_field="reply", omit_defaults=True, gc=False):
    pass


class EventFacts(Struct, gc=False):
    """One event as it stands in an ``events`` reply."""

    id: str
    name: str
    date: datetime
    capacity: int
    available: int
    held: int
    sold: int
    version: int


class EventsReply(_Reply, tag="events"):
    """Answers ``list``."""

    events: list[EventFacts]


class EventReply(EventFacts, tag_field="reply", tag="event", omit_defaults=True):
    """Answers ``create``, ``amend`` and ``show``: one event, flat. ``watch`` sends one for each change."""

    replayed: bool = False


class BookingFacts(Struct, omit_defaults=True, gc=False):
    """One booking as it is, or was.

    ``available`` and ``version`` are the event's right after the booking came to this state. Those of ``tickets`` that
    are in ``cancelled`` or ``redeemed`` are no longer valid; ``redeemed`` is told by ``show`` only.
    """

    id: str
    event: str
    quantity: int
    state: BookingState
    tickets: list[str]
    available: int
    version: int
    expires: datetime | None = None
    cancelled: Sequence[str] = ()
    redeemed: Sequence[str] = ()


class BookingReply(BookingFacts, tag_field="reply", tag="booking", omit_defaults=True):
    """Answers ``book``, ``hold``, ``confirm``, ``release``, ``cancel``, ``restore`` and ``show``: one booking, flat."""

    replayed: bool = False


class Made(Struct, omit_defaults=True, gc=False):
    """A booking as it was made; ``seconds`` and ``expires`` are those of what was held first."""

    available: int
    version: int
    seconds: int | None = None
    expires: datetime | None = None


class BookingRecord(BookingFacts, omit_defaults=True, gc=False):
    """One booking as it stands in a ``bookings`` reply: with its past, which is all that ``restore`` needs.

    ``made`` is left out of what was booked and has not changed since.
    """

    made: Made | None = None
    changes: Sequence[Change] = ()


class BookingsReply(_Reply, tag="bookings"):
    """Answers ``bookings``."""

    bookings: list[BookingRecord]


class TicketFacts(Struct, omit_defaults=True, gc=False):
    """One ticket as it stands in a ``tickets`` reply."""

    id: str
    event: str
    booking: str
    state: TicketState
    redeemed_at: datetime | None = None


class TicketReply(TicketFacts, tag_field="reply", tag="ticket", omit_defaults=True):
    """Answers ``redeem`` and ``show``: one ticket, flat."""

    replayed: bool = False


class TicketsReply(_Reply, tag="tickets"):
    """Answers ``tickets``."""

    tickets: list[TicketFacts]


class StatsReply(_Reply, tag="stats"):
    """Answers ``stats``. Counts are since the start; times are in seconds."""

    version: str
    uptime_seconds: float
    connections: int
    connections_max: int
    waiting: int
    events: int
    requests: int
    commits: int
    bookings: int
    tickets: int
    refused: int
    queued: int
    watchers: int


class PongReply(_Reply, tag="pong"):
    """Answers ``ping``."""


class FieldHelp(Struct):
    """One field of a command, as ``help`` tells it."""

    name: str
    required: bool
    must_be: str
    description: str


class CommandHelp(Struct):
    """One command, as ``help`` tells it."""

    command: str
    usage: str
    summary: str
    fields: list[FieldHelp]


class HelpReply(_Reply, tag="help"):
    """Answers ``help``."""

    commands: list[CommandHelp]


class ErrorReply(_Reply, tag="error"):
    """Answers whatever was refused. ``retry_after`` is in seconds."""

    code: Code
    message: str
    available: int | None = None
    version: int | None = None
    retry_after: float | None = None
    redeemed_at: datetime | None = None


Reply = (
    EventsReply
    | EventReply
    | BookingReply
    | BookingsReply
    | TicketReply
    | TicketsReply
    | StatsReply
    | PongReply
    | HelpReply
    | ErrorReply
)


COMMANDS = {command.name: command for command in map(Command, get_args(Request))}

_request_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_reply_decoder: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
encode = msgspec.json.Encoder().encode


def decode(frame: bytes) -> Request:
    """Return the request that a line of JSON holds, or raise TicketError that says what is wrong with it."""
    try:
        return _request_decoder.decode(frame)
    except msgspec.ValidationError:
        # Of a repeated field the last one counts, and the typed decoder stops at the first that is wrong: look again.
        return from_fields(_fields(frame))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_json(error) from None


def _fields(frame: bytes) -> dict[str, object]:
    try:
        fields: dict[str, object] = msgspec.json.decode(frame)
    except msgspec.ValidationError:
        raise TicketError("bad_request", "a number has more digits than any field takes") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_json(error) from None
    return fields


def from_fields(fields: dict[str, object]) -> Request:
    """Return the request that has these fields, ``cmd`` among them, or raise TicketError that says what is wrong."""
    cmd = fields.get("cmd")
    command = COMMANDS.get(cmd) if isinstance(cmd, str) else None
    try:
        # By its own type, which msgspec knows; it would make up its mind about the union of all for every request.
        return msgspec.convert(fields, type=command.request if command else Request)  # type: ignore[return-value]
    except msgspec.ValidationError as error:
        raise _explained(str(error), fields) from None


def decode_reply(frame: bytes) -> Reply:
    """Return the reply that a line holds, or raise msgspec.DecodeError. Fields that are not known are passed over."""
    return _reply_decoder.decode(frame)


def encode_events(facts: Iterable[bytes]) -> bytes:
    """Return an EventsReply whose events are encoded already."""
    return b'{"reply":"events","events":[%b]}' % b",".join(facts)


def encode_event(facts: bytes) -> bytes:
    """Return an EventReply of an event that is encoded already."""
    return b'{"reply":"event",' + facts[1:]


def bad_json(error: Exception) -> TicketError:
    """Return the error for a line that begins as JSON and is none."""
    match error:
        case RecursionError():
            what = "it is nested too deeply"
        case UnicodeDecodeError():
            what = "it is not UTF-8"
        case _:
            what = str(error).removeprefix("JSON is malformed: ")
    return TicketError("bad_frame", f'this line is not JSON: {what}; send one object a line, such as {{"cmd":"list"}}')


def _explained(wrong: str, given: dict[str, object]) -> TicketError:
    """Return the error for what msgspec found wrong with a request, in words that name the field and its bounds."""
    if "cmd" not in given:
        return TicketError(
            "bad_request", f'cmd is missing; it must be one of {listed(COMMANDS)}, as in {{"cmd":"list"}}'
        )
    command = COMMANDS.get(given["cmd"]) if isinstance(given["cmd"], str) else None
    if command is None:
        return unknown_command(given["cmd"])
    return TicketError("bad_request", command.explain(wrong, given))


def unknown_command(name: object) -> TicketError:
    """Return the error for a command that does not exist."""
    return TicketError("unknown_command", f"there is no command {shown(name)}; there are {listed(COMMANDS)}")


def help_reply(request: Help) -> HelpReply:
    """Answer ``help``, or raise TicketError if there is no such command."""
    if request.command is UNSET:
        return HelpReply([_help(command) for command in COMMANDS.values()])
    if request.command not in COMMANDS:
        raise unknown_command(request.command)
    return HelpReply([_help(COMMANDS[request.command])])


def _help(command: Command) -> CommandHelp:
    fields = [FieldHelp(field.name, field.required, field.must_be, field.description) for field in command.fields]
    return CommandHelp(command.name, command.usage, command.summary, fields)


def error_reply(error: TicketError) -> ErrorReply:
    """Return the reply that tells a TicketError."""
    return ErrorReply(error.code, error.message, retry_after=error.retry_after)
