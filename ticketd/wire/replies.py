"""The replies: one Struct per kind, distinguished by the field ``reply``. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from ticketd.errors import Code, TicketError
from ticketd.model import BookingState, ChangeKind, TicketState
from ticketd.wire.roles import Role

# No reply is longer.
REPLY_BYTES_MAX = 1024 * 1024


class Reply(Struct, tag_field="reply", omit_defaults=True, gc=False):
    """The base of all replies. Each subclass is a kind of reply, and its tag is the value of the field ``reply``."""


class EventFacts(Struct, omit_defaults=True, gc=False):
    """One event of an ``events`` reply.

    It is on sale from ``opens``, and before ``closes``, unless it is ``paused``. A buyer may have ``per_buyer`` tickets
    at most. ``waiting`` is how many bookings wait in line for its tickets.
    """

    id: str
    name: str
    date: datetime
    capacity: int
    available: int
    held: int
    sold: int
    version: int
    opens: datetime | None = None
    closes: datetime | None = None
    paused: bool = False
    per_buyer: int | None = None
    waiting: int = 0


class EventsReply(Reply, tag="events"):
    """Answers ``list``. ``more`` says that there are events after these."""

    events: list[EventFacts]
    more: bool = False


class EventReply(EventFacts, Reply, tag="event", omit_defaults=True, gc=False):
    """Answers ``create``, ``amend``, ``delete`` and ``show``: one event. ``watch`` sends one for each change."""

    replayed: bool = False


class ChangeFacts(Struct, omit_defaults=True, gc=False):
    """One change of a booking, and when it was.

    By an ``offer``, a booking that was waiting got its tickets, which are held; or it did ``leave`` the waiting list.
    ``tickets`` are those that a ``cancel`` cancelled, or the old and the new one of a ``reissue``. ``expires`` is set
    by ``extend`` and ``offer``. ``by`` is the name of the token with which it was asked for; it is shown to managers.
    """

    what: ChangeKind
    at: datetime
    available: int
    version: int
    tickets: Sequence[str] = ()
    expires: datetime | None = None
    by: str | None = None


class BookingFacts(Struct, omit_defaults=True, gc=False):
    """One booking, as it is or as it was earlier.

    ``available`` and ``version`` are the event's right after the booking came to this state. Those of ``tickets`` that
    are in ``cancelled`` or ``redeemed`` are no longer valid. ``redeemed``, and in the same order ``redeemed_at``, are
    there in replies to ``show``, ``bookings`` and ``redeem``, and ``changes`` in those to ``show`` and ``bookings``.
    While it is waiting, ``position`` is its place in line, from 1, in replies to ``wait``, ``show`` and ``watch``.
    ``by`` is the name of the token that booked it, and ``redeemed_by`` has, in the order of ``redeemed``, the names of
    those that redeemed its tickets. They are shown to managers, in replies to ``show`` and ``bookings``.
    """

    id: str
    event: str
    quantity: int
    state: BookingState
    tickets: list[str]
    available: int
    version: int
    booked_at: datetime
    expires: datetime | None = None
    buyer: str | None = None
    cancelled: Sequence[str] = ()
    redeemed: Sequence[str] = ()
    redeemed_at: Sequence[datetime] = ()
    changes: Sequence[ChangeFacts] = ()
    by: str | None = None
    redeemed_by: Sequence[str | None] = ()
    position: int | None = None


class BookingReply(BookingFacts, Reply, tag="booking", omit_defaults=True, gc=False):
    """Answers ``show``, and all commands that make or change a booking: one booking, flat.

    ``admitted`` are the tickets that were let in by the very scan that this answers.
    """

    replayed: bool = False
    admitted: Sequence[str] = ()


class Made(Struct, omit_defaults=True, gc=False):
    """A booking as it was when it was made.

    ``seconds`` and ``expires`` are set if it began as a hold; only ``seconds``, if it began in the waiting list.
    """

    available: int
    version: int
    seconds: int | None = None
    expires: datetime | None = None


class BookingRecord(BookingFacts, omit_defaults=True, gc=False):
    """One booking of a ``bookings`` reply, with its history.

    ``made`` is left out if it was booked at once and has not changed since.
    """

    made: Made | None = None


class BookingsReply(Reply, tag="bookings"):
    """Answers ``bookings``.

    ``more`` says that there may be bookings after these: those after the one with the id ``last``. There may be none
    here: a page that is asked for those of one event or buyer looks at a limited number of bookings.
    """

    bookings: list[BookingRecord]
    more: bool = False
    last: str | None = None


class RedemptionFacts(Struct, omit_defaults=True, gc=False):
    """What happened to a ticket at the door, and when. ``reason`` is why it was annulled, if that was said.

    ``by`` is the name of the token that did it; it is shown to managers, in replies to ``show``.
    """

    what: Literal["redeem", "annul"]
    at: datetime
    reason: str | None = None
    by: str | None = None


class TicketReply(Reply, tag="ticket"):
    """Answers ``redeem``, ``annul``, ``reissue`` and ``show``: one ticket, flat.

    ``history`` is there if a redemption of it was annulled. ``by`` is the name of the token that redeemed it; it is
    shown to managers, in replies to ``show``.
    """

    id: str
    event: str
    booking: str
    state: TicketState
    redeemed_at: datetime | None = None
    history: Sequence[RedemptionFacts] = ()
    replayed: bool = False
    by: str | None = None


class EventStats(Struct, omit_defaults=True, gc=False):
    """What this daemon did for one event since it started.

    ``sold``, ``held`` and ``expired`` are tickets; ``refused`` are requests, by the code of the refusal.
    """

    id: str
    sold: int = 0
    held: int = 0
    expired: int = 0
    refused: dict[str, int] = {}


class SlowCommit(Struct, gc=False):
    """One commit: when it was durable, how long it took, how much of that the ledger took to write and sync it, how
    many requests were in it, and of how many queues. Each event has a queue, and requests of no event have another.
    """

    at: datetime
    seconds: float
    sync_seconds: float
    requests: int
    queues: int


class StatsReply(Reply, tag="stats"):
    """Answers ``stats``. Counts are since the daemon started; times are in seconds.

    ``busiest`` are the events with the most requests that were decided, up to 100 of them. ``slowest`` are the ten
    slowest commits of the last hour, the slowest first.
    """

    version: str
    ready: bool
    uptime_seconds: float
    connections: int
    connections_max: int
    connections_waiting: int
    events: int
    requests: int
    commits: int
    bookings: int
    tickets: int
    refused: int
    queued: int
    watchers: int
    busiest: list[EventStats] = []
    slowest: list[SlowCommit] = []


class BackupReply(Reply, tag="backup"):
    """Answers ``backup``: it is durable, was checked, and has the first ``commits`` commits of the ledger.

    ``seconds`` is how long it took to write and check its ``bytes``.
    """

    name: str
    commits: int
    bytes: int
    seconds: float


class WelcomeReply(Reply, tag="welcome"):
    """Answers ``auth``: as whom the daemon knows you now, and what you may do."""

    name: str
    role: Role


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
    """Answers a request that was refused. ``retry_after`` is in seconds.

    If it is ``unasked``, it answers no request: the connection ends, and it says why. ``opens`` is when the sale of the
    event begins. ``left`` is how many tickets the buyer may still have.
    """

    code: Code
    message: str
    available: int | None = None
    version: int | None = None
    retry_after: float | None = None
    redeemed_at: datetime | None = None
    opens: datetime | None = None
    left: int | None = None
    unasked: bool = False


def error_reply(error: TicketError) -> ErrorReply:
    """Return the reply for a TicketError."""
    return ErrorReply(error.code, error.message, retry_after=error.retry_after, unasked=error.unasked)
