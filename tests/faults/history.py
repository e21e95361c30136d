"""The history of clients and their replies: what it tells of the lives of bookings and the states of events.

Pure. It knows the promises of the protocol, and nothing of processes: many daemons on one ledger make one history.
What cannot be put together raises AssertionError with the operations that contradict. ``checker`` proves the rest.

The changes of an event are numbered by its ``version``, so a history is put in order by what it tells, not searched
for an order that would do.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

Row = dict[str, Any]

# With these, it was certainly not done.
NOT_DONE = ("busy", "storage_full", "shutting_down", "too_many_connections", "idle_timeout")
CHANGES_OF_BOOKINGS = ("book", "hold", "confirm", "release", "cancel")
CHANGES = (*CHANGES_OF_BOOKINGS, "redeem", "amend")
SHOWN_CHARS_MAX = 500

# Only some replies about a booking have these.
_BESIDE_THE_BOOKING = ("reply", "replayed", "redeemed", "redeemed_at", "made", "changes")
# The last part of the id of a ticket, after the id of its booking.
_LAST_PART = re.compile(r"\.[0-9a-f]{12}")
# What makes the second state of the first.
_TRANSITIONS = {
    (None, "confirmed"): "book",
    (None, "held"): "hold",
    ("held", "confirmed"): "confirm",
    ("held", "released"): "release",
    ("held", "expired"): "expire",
    ("confirmed", "confirmed"): "cancel",
    ("confirmed", "cancelled"): "cancel",
}


@dataclass(slots=True, eq=False)
class Operation:
    """A request to the daemon at a port and its reply, which never came if it is None.

    The operations of a connection are in the order sent. Each line that a ``watch`` sends is an operation, invoked
    when the watch was.
    """

    who: str
    port: int
    connection: int
    request: Row
    invoked: float
    answered: float = inf
    reply: Row | None = None

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
    """What happened to a booking, the booking right after it, and the operations whose replies show it."""

    what: str
    version: int
    facts: Row
    tickets: frozenset[str]
    shown_by: list[Operation]


class Life(NamedTuple):
    """A booking from its first change to its last."""

    event: str
    quantity: int
    changes: list[Change]

    def place(self, version: int) -> int:
        """Return which change was the last one at a version of the event; -1 before the first."""
        return bisect_right(self.changes, version, key=lambda change: change.version) - 1

    def state(self, version: int) -> str | None:
        """Return the state at a version of the event."""
        place = self.place(version)
        return str(self.changes[place].facts["state"]) if place >= 0 else None

    @property
    def issued(self) -> Change | None:
        """The change that made the tickets."""
        return next((change for change in self.changes if change.what in ("book", "confirm")), None)


class State(NamedTuple):
    """An event as it stands."""

    name: str
    date: str
    capacity: int
    available: int
    held: int
    sold: int

    def moved(self, available: int, held: int, sold: int) -> "State":
        """Return the event after so many tickets more are available, held and sold."""
        return self._replace(available=self.available + available, held=self.held + held, sold=self.sold + sold)

    def amended(self, request: Row) -> "State":
        """Return the event after an ``amend``."""
        after = self._replace(**{name: request[name] for name in ("name", "date", "capacity") if name in request})
        return after._replace(available=after.capacity - after.held - after.sold)


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
            state = state.moved(*_movement(change))
        return state


def contradiction(what: str, *operations: Operation) -> AssertionError:
    """Return the error that says what is wrong, and with which operations."""
    return AssertionError("\n  ".join([what, *map(str, operations)]))


# What replies show


def bookings_shown(operation: Operation) -> Iterator[Row]:
    for facts in _bookings_in(operation):
        yield {name: value for name, value in facts.items() if name not in _BESIDE_THE_BOOKING}


def redemptions_shown(operation: Operation) -> dict[str, dict[str, str]]:
    """Return when which tickets of each booking were redeemed, where a reply shows that."""
    shown: dict[str, dict[str, str]] = {}
    if operation.cmd in ("show", "bookings"):
        for facts in _bookings_in(operation):
            redeemed, times = facts.get("redeemed", []), facts.get("redeemed_at", [])
            if len(redeemed) != len(times) or not {*redeemed} <= {*facts["tickets"]} - {*facts.get("cancelled", ())}:
                raise contradiction(f"of booking {facts['id']} these cannot have been redeemed: {redeemed}", operation)
            shown[facts["id"]] = dict(zip(redeemed, times, strict=True))
    return shown


def _bookings_in(operation: Operation) -> list[Row]:
    reply = operation.reply or {"reply": "nothing"}
    return reply["bookings"] if reply["reply"] == "bookings" else [reply] if reply["reply"] == "booking" else []


def events_shown(operation: Operation) -> Iterable[Row]:
    reply = operation.reply
    if reply and reply["reply"] == "events":
        events: list[Row] = reply["events"]
        return events
    return [reply] if reply and reply["reply"] == "event" else []


def tickets_shown(operation: Operation) -> Iterable[Row]:
    reply = operation.reply
    return [reply] if reply and reply["reply"] == "ticket" else []


# The lives of bookings and tickets


def lives_of(history: Sequence[Operation]) -> dict[str, Life]:
    """Exactly once: all replies that show a change of a booking show the same one, and the changes make a life."""
    shown: dict[str, dict[int, tuple[Row, list[Operation]]]] = defaultdict(dict)
    for operation in history:
        for facts in bookings_shown(operation):
            known, operations = shown[facts["id"]].setdefault(facts["version"], (facts, []))
            if known != facts:
                raise contradiction(f"booking {facts['id']} is shown in two ways", operations[0], operation)
            operations.append(operation)
    return {booking: _life(of_booking) for booking, of_booking in shown.items()}


def _life(shown: dict[int, tuple[Row, list[Operation]]]) -> Life:
    changes: list[Change] = []
    before: Row = {}
    for version, (facts, operations) in sorted(shown.items()):
        what = _TRANSITIONS.get((before.get("state"), facts["state"]))
        gone, gone_before = frozenset(facts.get("cancelled", ())), frozenset(before.get("cancelled", ()))
        tickets = frozenset(facts["tickets"])
        issued = facts["quantity"] if facts["state"] in ("confirmed", "cancelled") else 0
        possible = (
            what is not None
            and all(before.get(name, facts[name]) == facts[name] for name in ("event", "quantity"))
            and len(tickets) == len(facts["tickets"]) == issued
            and all(_is_of(ticket, facts["id"]) for ticket in tickets)
            and (what != "cancel" or before["tickets"] == facts["tickets"])
            and (gone_before < gone <= tickets if what == "cancel" else not gone)
            and (facts["state"] == "cancelled") == (len(gone) == facts["quantity"])
        )
        if not possible:
            raise contradiction(
                f"booking {facts['id']} cannot become {facts['state']} by version {version}",
                *(changes[-1].shown_by[:1] if changes else ()),
                operations[0],
            )
        changes.append(Change(str(what), version, facts, gone - gone_before, operations))
        before = facts
    return Life(before["event"], before["quantity"], changes)


def _is_of(ticket: str, booking: str) -> bool:
    """Whether this is an id of a ticket of a booking."""
    return ticket.startswith(booking) and bool(_LAST_PART.fullmatch(ticket, len(booking)))


def tickets_of(lives: Mapping[str, Life]) -> dict[str, str]:
    """No two bookings have the same ticket. Return the booking of each."""
    tickets: dict[str, str] = {}
    for booking, life in lives.items():
        if life.issued:
            for ticket in life.issued.facts["tickets"]:
                if tickets.setdefault(ticket, booking) != booking:
                    first = lives[tickets[ticket]].issued
                    assert first
                    raise contradiction(f"ticket {ticket} was sold twice", first.shown_by[0], life.issued.shown_by[0])
    return tickets


def redemptions_of(history: Sequence[Operation]) -> dict[str, str]:
    """A ticket is redeemed once: all replies that say when say the same time. Return it."""
    shown: dict[str, tuple[str, Operation]] = {}
    for operation in history:
        at = [(facts["id"], facts["redeemed_at"]) for facts in tickets_shown(operation) if "redeemed_at" in facts]
        at += [entry for of_booking in redemptions_shown(operation).values() for entry in of_booking.items()]
        if operation.cmd == "redeem" and operation.code == "already_redeemed" and operation.reply:
            at.append((operation.request["ticket"], operation.reply["redeemed_at"]))
        for ticket, time in at:
            if shown.setdefault(ticket, (time, operation))[0] != time:
                raise contradiction(f"ticket {ticket} was redeemed at two times", shown[ticket][1], operation)
    return {ticket: time for ticket, (time, _) in shown.items()}


# The versions of an event


def _movement(change: Change) -> tuple[int, int, int]:
    """Return how many tickets more are available, held and sold by it."""
    quantity: int = change.facts["quantity"]
    gone = len(change.tickets)
    return {
        "book": (-quantity, 0, quantity),
        "hold": (-quantity, quantity, 0),
        "confirm": (0, -quantity, quantity),
        "release": (quantity, -quantity, 0),
        "expire": (quantity, -quantity, 0),
        "cancel": (gone, 0, -gone),
    }[change.what]


def states_of(
    history: Sequence[Operation], events: Mapping[str, Row], lives: Mapping[str, Life]
) -> tuple[dict[str, list[State]], dict[str, dict[int, Step]]]:
    """Every version is one change and none is missing; after each, the counts are what it makes of those before it."""
    steps = _steps(history, lives)
    shown, lost = _counts_shown(history, lives), _lost_amends(history)
    states: dict[str, list[State]] = {}
    for event, facts in events.items():
        state = state_of(facts)
        if state.capacity != state.available + state.held + state.sold:
            raise contradiction(f"event {event} does not add up: {state}")
        of_versions = states[event] = [state]
        of_event = steps[event]
        for version in range(1, max([0, *of_event, *shown[event]]) + 1):
            if version not in of_event:
                of_event[version] = _lost_amend(event, version, state, lost[event], of_event, shown[event])
            step = of_event[version]
            after = step.after(state)
            if after.available != step.available or min(after[2:]) < 0:
                raise contradiction(
                    f"event {event} at version {version}: {step.what} cannot make {step.available} available"
                    f" of {state.available}, with {after}",
                    *(of_event[version - 1].shown_by[:1] if version > 1 else ()),
                    step.shown_by[0],
                )
            state = after
            of_versions.append(state)
    return states, steps


def state_of(facts: Row) -> State:
    return State(*(facts[name] for name in State._fields))


def _steps(history: Sequence[Operation], lives: Mapping[str, Life]) -> dict[str, dict[int, Step]]:
    """All holds of an event that ran out together are one version; any other change is one of its own."""
    steps: dict[str, dict[int, Step]] = defaultdict(dict)

    def put(event: str, version: int, new: Step) -> None:
        step = steps[event].setdefault(version, new)
        if step is not new:
            if (new.what, new.available) != ("expire", step.available) or step.what != "expire":
                raise contradiction(
                    f"event {event} has two changes of version {version}", step.shown_by[0], new.shown_by[0]
                )
            step.changes += new.changes

    for life in lives.values():
        for change in life.changes:
            put(life.event, change.version, Step(change.what, change.facts["available"], change.shown_by, [change]))
    for operation in history:
        if operation.cmd == "amend" and operation.changed:
            for facts in events_shown(operation):
                put(facts["id"], facts["version"], Step("amend", facts["available"], [operation]))
    return steps


def _counts_shown(history: Sequence[Operation], lives: Mapping[str, Life]) -> dict[str, dict[int, int]]:
    """Return what is available at the versions of each event, by replies other than those of changed bookings."""
    shown: dict[str, dict[int, int]] = defaultdict(dict)
    for operation in history:
        for facts in events_shown(operation):
            shown[facts["id"]][facts["version"]] = facts["available"]
        if operation.code and operation.reply and "version" in operation.reply:
            shown[event_of(operation, lives)][operation.reply["version"]] = operation.reply["available"]
    return shown


def event_of(operation: Operation, lives: Mapping[str, Life]) -> str:
    if "event" in operation.request:
        return str(operation.request["event"])
    if operation.request["booking"] not in lives:
        raise contradiction("it is refused for the state of a booking that nobody ever saw", operation)
    return lives[operation.request["booking"]].event


def _lost_amends(history: Sequence[Operation]) -> dict[str, list[Operation]]:
    lost: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        if operation.cmd == "amend" and operation.unknown:
            lost[operation.request["event"]].append(operation)
    return lost


def _lost_amend(
    event: str, version: int, before: State, lost: list[Operation], steps: dict[int, Step], shown: dict[int, int]
) -> Step:
    """Find the ``amend`` that made a version that no reply shows, since no event remembers its versions."""
    available = shown.get(version)
    following = steps.get(version + 1)
    if available is None and following and following.what != "amend":
        available = following.available - sum(_movement(change)[0] for change in following.changes)
    for operation in lost:
        after = before.amended(operation.request)
        if after != before and available in (None, after.available):
            lost.remove(operation)
            return Step("amend", after.available, [operation])
    raise contradiction(
        f"nothing explains version {version} of event {event}",
        *(steps[version - 1].shown_by[:1] if version > 1 else ()),
        *(following.shown_by[:1] if following else ()),
    )
