"""The history of clients and their replies, and what these show of events, bookings and tickets.

Pure. It knows the promises of the protocol, and nothing of processes: many daemons on one ledger make one history.
What cannot be put together raises AssertionError with the operations that contradict. ``checker`` proves the rest.

The changes of an event are numbered by its ``version``, so a history is put in order by what it tells, not searched
for an order that would do.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any, NamedTuple

Row = dict[str, Any]

# With these, it was certainly not done.
NOT_DONE = ("busy", "storage_full", "shutting_down", "too_many_connections", "idle_timeout")
CHANGES_OF_BOOKINGS = ("book", "hold", "wait", "extend", "confirm", "release", "cancel")
# They change no event.
DOOR = ("redeem", "annul")
CHANGES = (*CHANGES_OF_BOOKINGS, "reissue", *DOOR, "amend", "create", "delete")
SHOWN_CHARS_MAX = 500

# Only some replies about a booking have these.
_BESIDE_THE_BOOKING = ("reply", "replayed", "redeemed", "redeemed_at", "admitted", "made", "changes", "by", "position")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True, eq=False)
class Operation:
    """A request to the daemon at a port and its reply, which never came if it is None.

    The operations of a connection are in the order sent. Each line that a ``watch`` sends is an operation, invoked
    when the watch was. By the wall clock, in milliseconds since 1970, it was decided from ``since`` to ``until``.
    """

    who: str
    port: int
    connection: int
    request: Row
    invoked: float
    answered: float = inf
    reply: Row | None = None
    since: float = -inf
    until: float = inf
    tag: str | None = field(default=None, init=False)

    def __str__(self) -> str:
        when = f"{self.invoked:.6f} to {self.answered:.6f}"
        text = f"{self.who} on {self.connection} to {self.port}, {when}: {self.request} {self.reply}"
        return text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}..."

    @property
    def cmd(self) -> str:
        """What was asked."""
        return str(self.request["cmd"])

    @property
    def code(self) -> str | None:
        """What an error said."""
        return self.reply["code"] if self.reply and self.reply["reply"] == "error" else None

    @property
    def unknown(self) -> bool:
        """Whether no reply says what came of it."""
        return self.reply is None or self.code == "outcome_unknown"

    @property
    def replayed(self) -> bool:
        """Whether the reply says that this was done before."""
        return bool(self.reply and self.reply.get("replayed"))

    @property
    def changed(self) -> bool:
        """Whether the reply says that this has changed something."""
        return self.cmd in CHANGES and bool(self.reply) and self.code is None and not self.replayed


class Change(NamedTuple):
    """What happened to a booking, the booking right after it, and the operations whose replies show it.

    ``what`` is ``late`` for a ``confirm`` after the hold ran out. ``tickets`` are those that it cancelled, or the old
    one and the new one of a ``reissue``. ``at`` is when it was, in milliseconds since 1970, if a reply tells that.
    """

    what: str
    version: int
    facts: Row
    tickets: tuple[str, ...]
    at: int | None
    shown_by: list[Operation]


class Life(NamedTuple):
    """A booking from its first change to its last."""

    event: str
    quantity: int
    changes: list[Change]

    def place(self, version: int) -> int:
        """Return which change was the last one at a version of the event; -1 before the first."""
        return bisect_right(self.changes, version, key=lambda change: change.version) - 1

    def facts(self, version: int) -> Row:
        """Return the booking at a version of the event; empty before there was one."""
        place = self.place(version)
        return self.changes[place].facts if place >= 0 else {}

    def state(self, version: int) -> str | None:
        """Return the state at a version of the event."""
        return self.facts(version).get("state")

    @property
    def buyer(self) -> str | None:
        """Who it is for."""
        return self.changes[0].facts.get("buyer")

    @property
    def held(self) -> Change | None:
        """The change by which it was held first, if it was."""
        return next((change for change in self.changes[:2] if change.what in ("hold", "offer")), None)


class Ticket(NamedTuple):
    """A ticket: of which booking it is, the change that made it, and the one that ended it, if one did."""

    booking: str
    born: Change
    ended: Change | None = None


class State(NamedTuple):
    """An event as it stands. Times of its sale are in milliseconds since 1970."""

    name: str
    date: str
    capacity: int
    available: int
    held: int
    sold: int
    opens: int | None = None
    closes: int | None = None
    paused: bool = False
    per_buyer: int | None = None
    waiting: int = 0

    def moved(self, available: int, held: int, sold: int, waiting: int) -> "State":
        """Return the event after so many tickets more are available, held and sold, and so many bookings more wait."""
        return self._replace(
            available=self.available + available,
            held=self.held + held,
            sold=self.sold + sold,
            waiting=self.waiting + waiting,
        )

    def amended(self, request: Row) -> "State":
        """Return the event after an ``amend``."""
        after = self._replace(**_terms({name: value for name, value in request.items() if name in _TERMS}))
        return after._replace(available=after.capacity - after.held - after.sold)

    def is_on_sale(self, now: float) -> bool:
        """Whether it may be booked at a time in milliseconds since 1970."""
        opened = self.opens is None or self.opens <= now
        return opened and not self.paused and (self.closes is None or now < self.closes)


_TERMS = ("name", "date", "capacity", "opens", "closes", "paused", "per_buyer")


@dataclass
class Step:
    """One version of an event: what was changed, and how many tickets are available then."""

    what: str
    available: int
    shown_by: list[Operation]
    changes: list[Change] = field(default_factory=list)

    def after(self, state: State) -> State:
        """Return the event after this."""
        if self.what == "amend":
            return state.amended(self.shown_by[0].request)
        for change in self.changes:
            state = state.moved(*movement(change))
        return state


def contradiction(what: str, *operations: Operation) -> AssertionError:
    """Return the error that says what is wrong, and with which operations."""
    return AssertionError("\n  ".join([what, *map(str, operations)]))


def milliseconds(time: str) -> int:
    """Return a time as milliseconds since 1970."""
    return round((datetime.fromisoformat(time) - _EPOCH) / timedelta(milliseconds=1))


def movement(change: Change) -> tuple[int, int, int, int]:
    """Return how many tickets more are available, held and sold by it, and how many bookings more wait."""
    quantity: int = change.facts["quantity"]
    gone = len(change.tickets)
    return {
        "book": (-quantity, 0, quantity, 0),
        "hold": (-quantity, quantity, 0, 0),
        "wait": (0, 0, 0, 1),
        "offer": (-quantity, quantity, 0, -1),
        "leave": (0, 0, 0, -1),
        "extend": (0, 0, 0, 0),
        "confirm": (0, -quantity, quantity, 0),
        "late": (-quantity, 0, quantity, 0),
        "release": (quantity, -quantity, 0, 0),
        "expire": (quantity, -quantity, 0, 0),
        "cancel": (gone, 0, -gone, 0),
        "reissue": (0, 0, 0, 0),
    }[change.what]


def gain(change: Change) -> int:
    """Return how many tickets more its buyer has, or waits for."""
    quantity: int = change.facts["quantity"]
    return {"wait": quantity, "offer": 0, "leave": -quantity}.get(change.what, -movement(change)[0])


def state_of(facts: Row) -> State:
    """Return the event that facts of a reply show."""
    return State(**_terms({name: facts[name] for name in State._fields if name in facts}))


def _terms(facts: Row) -> Row:
    return {name: milliseconds(of) if name in ("opens", "closes") and of else of for name, of in facts.items()}


# What replies show


def bookings_shown(operation: Operation) -> Iterator[Row]:
    """Yield the bookings that a reply shows, without what only some replies tell of them."""
    return map(without_more, bookings_in(operation))


def without_more(facts: Row) -> Row:
    """Return a booking without what only some replies tell of it."""
    return {name: value for name, value in facts.items() if name not in _BESIDE_THE_BOOKING}


def bookings_in(operation: Operation) -> list[Row]:
    """Return the bookings that a reply shows."""
    reply = operation.reply or {"reply": "nothing"}
    return reply["bookings"] if reply["reply"] == "bookings" else [reply] if reply["reply"] == "booking" else []


def redemptions_shown(operation: Operation) -> dict[str, dict[str, str]]:
    """Return when which tickets of each booking were redeemed, where a reply shows that."""
    shown: dict[str, dict[str, str]] = {}
    if operation.cmd in ("show", "watch", "bookings", "redeem"):
        for facts in bookings_in(operation):
            redeemed, times = facts.get("redeemed", []), facts.get("redeemed_at", [])
            if len(redeemed) != len(times) or not {*redeemed} <= {*valid_tickets(facts)}:
                raise contradiction(f"of booking {facts['id']} these cannot have been redeemed: {redeemed}", operation)
            shown[facts["id"]] = dict(zip(redeemed, times, strict=True))
    return shown


def valid_tickets(facts: Row) -> list[str]:
    """Return the tickets of a booking that are not cancelled."""
    return [ticket for ticket in facts["tickets"] if ticket not in facts.get("cancelled", ())]


def events_shown(operation: Operation) -> Iterable[Row]:
    """Return the events that a reply shows."""
    reply = operation.reply
    if reply and reply["reply"] == "events":
        events: list[Row] = reply["events"]
        return events
    return [reply] if reply and reply["reply"] == "event" else []


def tickets_shown(operation: Operation) -> Iterable[Row]:
    """Return the tickets that a reply shows."""
    reply = operation.reply
    return [reply] if reply and reply["reply"] == "ticket" else []
