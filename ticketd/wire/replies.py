"""The replies: one Struct per kind, distinguished by the field ``reply``. Pure."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from ticketd.errors import Code, TicketError
from ticketd.model import BookingState, Change, TicketState


class Reply(Struct, tag_field="reply", omit_defaults=True, gc=False):
    """The base of all replies. Each subclass is a kind of reply, and its tag is the value of the field ``reply``."""


class EventFacts(Struct, gc=False):
    """One event of an ``events`` reply."""

    id: str
    name: str
    date: datetime
    capacity: int
    available: int
    held: int
    sold: int
    version: int


class EventsReply(Reply, tag="events"):
    """Answers ``list``. ``more`` says that there are events after these."""

    events: list[EventFacts]
    more: bool = False


class EventReply(EventFacts, Reply, tag="event", omit_defaults=True, gc=False):
    """Answers ``create``, ``amend`` and ``show``: one event, flat. ``watch`` sends one for each change."""

    replayed: bool = False


class BookingFacts(Struct, omit_defaults=True, gc=False):
    """One booking, as it is or as it was earlier.

    ``available`` and ``version`` are the event's right after the booking came to this state. Those of ``tickets`` that
    are in ``cancelled`` or ``redeemed`` are no longer valid. ``redeemed``, and in the same order ``redeemed_at``, are
    there in replies to ``show`` and ``bookings``.
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
    redeemed_at: Sequence[datetime] = ()


class BookingReply(BookingFacts, Reply, tag="booking", omit_defaults=True, gc=False):
    """Answers ``book``, ``hold``, ``confirm``, ``release``, ``cancel`` and ``show``: one booking, flat."""

    replayed: bool = False


class Made(Struct, omit_defaults=True, gc=False):
    """A booking as it was when it was made. ``seconds`` and ``expires`` are set if it began as a hold."""

    available: int
    version: int
    seconds: int | None = None
    expires: datetime | None = None


class BookingRecord(BookingFacts, omit_defaults=True, gc=False):
    """One booking of a ``bookings`` reply, with its history.

    ``made`` is left out if it did not begin as a hold and has not changed since.
    """

    made: Made | None = None
    changes: Sequence[Change] = ()


class BookingsReply(Reply, tag="bookings"):
    """Answers ``bookings``. ``more`` says that there are bookings after these."""

    bookings: list[BookingRecord]
    more: bool = False


class TicketReply(Reply, tag="ticket"):
    """Answers ``redeem`` and ``show``: one ticket, flat."""

    id: str
    event: str
    booking: str
    state: TicketState
    redeemed_at: datetime | None = None


class StatsReply(Reply, tag="stats"):
    """Answers ``stats``. Counts are since the daemon started; times are in seconds."""

    version: str
    ready: bool
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


class ReadyReply(Reply, tag="ready"):
    """Answers ``ready`` if the daemon can commit now."""


class PongReply(Reply, tag="pong"):
    """Answers ``ping``. With ``heartbeat``, ``watch`` sends it when there is nothing else to send."""

    heartbeat: bool = False


class FieldHelp(Struct):
    """One field of a command, as ``help`` shows it."""

    name: str
    required: bool
    must_be: str
    description: str


class CommandHelp(Struct):
    """One command, as ``help`` shows it."""

    command: str
    usage: str
    summary: str
    fields: list[FieldHelp]


class HelpReply(Reply, tag="help"):
    """Answers ``help``."""

    commands: list[CommandHelp]


class ErrorReply(Reply, tag="error"):
    """Answers a request that was refused. ``retry_after`` is in seconds."""

    code: Code
    message: str
    available: int | None = None
    version: int | None = None
    retry_after: float | None = None
    redeemed_at: datetime | None = None


def error_reply(error: TicketError) -> ErrorReply:
    """Return the reply for a TicketError."""
    return ErrorReply(error.code, error.message, retry_after=error.retry_after)
