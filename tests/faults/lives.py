"""The lives of bookings and their tickets, put together from all replies that show some of them. Pure."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import inf

from tests.faults.history import (
    Change,
    Life,
    Operation,
    Row,
    Ticket,
    bookings_in,
    bookings_shown,
    contradiction,
    milliseconds,
)
from ticketd.model import HOLD_SECONDS_TOTAL_MAX_DEFAULT

HOLD_MS_TOTAL_MAX = HOLD_SECONDS_TOTAL_MAX_DEFAULT * 1_000
# The last part of the id of a ticket, after the id of its booking.
_LAST_PART = re.compile(r"\.[0-9a-f]{12}")
_SOLD = ("confirmed", "cancelled")
# What makes the second state of the first.
_TRANSITIONS = {
    (None, "confirmed"): "book",
    (None, "held"): "hold",
    (None, "waiting"): "wait",
    ("waiting", "held"): "offer",
    ("waiting", "released"): "leave",
    ("held", "held"): "extend",
    ("held", "confirmed"): "confirm",
    ("held", "released"): "release",
    ("held", "expired"): "expire",
    ("expired", "confirmed"): "late",
    ("confirmed", "confirmed"): "cancel",
    ("confirmed", "cancelled"): "cancel",
}
_STATE_AFTER = {
    "offer": "held",
    "leave": "released",
    "extend": "held",
    "confirm": "confirmed",
    "release": "released",
    "expire": "expired",
}

# For one booking, by version of its event: how it was then, and the operations that were shown that.
_Shown = dict[int, tuple[Row, list[Operation]]]


def lives_of(history: Sequence[Operation]) -> dict[str, Life]:
    """Exactly once: all replies that show a change of a booking show the same one, and the changes make a life."""
    shown: dict[str, _Shown] = defaultdict(dict)
    times: dict[tuple[str, int], tuple[int, Operation]] = {}

    def put(facts: Row, operation: Operation) -> None:
        known, operations = shown[facts["id"]].setdefault(facts["version"], (facts, []))
        if known != facts:
            raise contradiction(f"booking {facts['id']} is shown in two ways", operations[0], operation)
        operations.append(operation)

    for operation in history:
        for facts in bookings_shown(operation):
            put(facts, operation)
        for facts in bookings_in(operation):
            for past in _past(facts):
                put(past, operation)
            for change in facts.get("changes", ()):
                at = milliseconds(change["at"])
                known, first = times.setdefault((facts["id"], change["version"]), (at, operation))
                if known != at:
                    raise contradiction(f"booking {facts['id']} has another past", first, operation)
    at_version = {key: at for key, (at, _) in times.items()}
    return {booking: _life(booking, of_booking, at_version) for booking, of_booking in shown.items()}


def _past(facts: Row) -> Iterator[Row]:
    """Yield a booking as it was after each of the changes that its facts list, and when it was made if they say so."""
    changes, made = facts.get("changes", ()), facts.get("made")
    if not changes and not made:
        return
    state = _first_state(made or {}, changes[0]["what"] if changes else None)
    gone: set[str] = set()
    after: list[tuple[Row, str, set[str]]] = [(made, state, gone)] if made else []
    for change in changes:
        state = _STATE_AFTER.get(change["what"], state)
        if change["what"] == "cancel":
            gone = gone | {*change["tickets"]}
            state = "cancelled" if len(gone) == facts["quantity"] else state
        after.append((change, state, gone))
    tickets = facts["tickets"]
    always: Row = {name: facts[name] for name in ("id", "event", "quantity", "booked_at", "buyer") if name in facts}
    for change, state, gone in reversed(after):
        shown = tickets if state in _SOLD else []
        cancelled = [ticket for ticket in shown if ticket in gone]
        yield {
            **always,
            "state": state,
            "tickets": shown,
            "available": change["available"],
            "version": change["version"],
            **({"expires": change.get("expires")} if state == "held" else {}),
            **({"cancelled": cancelled} if cancelled else {}),
        }
        if change.get("what") == "reissue":
            old, new = change["tickets"]
            tickets = [old if ticket == new else ticket for ticket in tickets]


def _first_state(made: Row, first_change: str | None) -> str:
    """Return what a booking was when it was made."""
    if ("seconds" in made and "expires" not in made) or first_change in ("offer", "leave"):
        return "waiting"
    return "held" if "seconds" in made or first_change in _STATE_AFTER else "confirmed"


def _life(booking: str, shown: _Shown, times: Mapping[tuple[str, int], int]) -> Life:
    changes: list[Change] = []
    made, _ = shown[min(shown)]
    life = Life(made["event"], made["quantity"], changes)
    had: set[str] = set()
    before: Row = {}
    for version, (facts, operations) in sorted(shown.items()):
        what, tickets = _transition(before, facts)
        if not what or not _is_possible(what, before, facts) or (what == "reissue" and tickets[1] in had):
            raise contradiction(
                f"booking {booking} cannot become {facts['state']} by version {version}",
                *(changes[-1].shown_by[:1] if changes else ()),
                operations[0],
            )
        booked_at = milliseconds(facts["booked_at"]) if not changes and "booked_at" in facts else None
        changes.append(Change(what, version, facts, tickets, times.get((booking, version), booked_at), operations))
        had.update(facts["tickets"])
        before = facts
        if "expires" in facts and milliseconds(facts["expires"]) > ceiling(life):
            raise contradiction(f"booking {booking} is held for too long", operations[0])
    return life


def ceiling(life: Life) -> float:
    """Return until when a booking may be held, however often it is extended, in milliseconds since 1970."""
    held = life.held
    return inf if held is None or held.at is None else held.at + HOLD_MS_TOTAL_MAX


def _transition(before: Row, facts: Row) -> tuple[str | None, tuple[str, ...]]:
    """Return what made a booking of what it was before, and with which tickets."""
    what = _TRANSITIONS.get((before.get("state"), facts["state"]))
    if what != "cancel":
        return what, ()
    if facts["tickets"] != before["tickets"] and len(facts["tickets"]) == len(before["tickets"]):
        pairs = zip(before["tickets"], facts["tickets"], strict=True)
        replaced = [(old, new) for old, new in pairs if old != new]
        possible = len(replaced) == 1 and facts.get("cancelled") == before.get("cancelled")
        return ("reissue", replaced[0]) if possible else (None, ())
    gone = {*facts.get("cancelled", ())} - {*before.get("cancelled", ())}
    return what, tuple(sorted(gone))


def _is_possible(what: str, before: Row, facts: Row) -> bool:
    gone, gone_before = {*facts.get("cancelled", ())}, {*before.get("cancelled", ())}
    tickets = {*facts["tickets"]}
    issued = facts["quantity"] if facts["state"] in _SOLD else 0
    return (
        all(not before or before.get(name) == facts.get(name) for name in ("event", "quantity", "booked_at", "buyer"))
        and len(tickets) == len(facts["tickets"]) == issued
        and all(_is_of(ticket, facts["id"]) for ticket in tickets)
        and (what != "cancel" or before["tickets"] == facts["tickets"])
        and (gone_before < gone <= tickets if what == "cancel" else gone == gone_before and gone <= tickets)
        and (facts["state"] == "cancelled") == (len(gone) == facts["quantity"])
        and (what != "extend" or milliseconds(before["expires"]) < milliseconds(facts["expires"]))
    )


def _is_of(ticket: str, booking: str) -> bool:
    """Whether this is an id of a ticket of a booking."""
    return ticket.startswith(booking) and bool(_LAST_PART.fullmatch(ticket, len(booking)))


def tickets_of(lives: Mapping[str, Life]) -> dict[str, Ticket]:
    """No two bookings have the same ticket, and none has it twice. Return what became of each."""
    tickets: dict[str, Ticket] = {}
    for booking, life in lives.items():
        for change in life.changes:
            if change.what in ("cancel", "reissue"):
                for ticket in change.tickets[: 1 if change.what == "reissue" else None]:
                    tickets[ticket] = tickets[ticket]._replace(ended=change)
            born = change.facts["tickets"] if change.what in ("book", "confirm", "late") else ()
            for ticket in change.tickets[1:] if change.what == "reissue" else born:
                first = tickets.setdefault(ticket, Ticket(booking, change))
                if first.born is not change:
                    shown = (first.born.shown_by[0], change.shown_by[0])
                    raise contradiction(f"ticket {ticket} was sold twice", *shown)
    return tickets
