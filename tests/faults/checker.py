"""Proves that a recorded history of clients and their replies is right, or names the operations that contradict.

In the life of an event, change number v is moment 2v, and what it leaves is moment 2v + 1. Every reply says at which
moments it can have been decided; real time and the order of a connection must agree. ``door`` has the moments of
tickets, ``doers`` who asked for what, ``sale`` the times of a sale and the limits of buyers, ``turns`` the waiting
lists, ``existence`` the events that come and go.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from math import inf

from tests.faults import order
from tests.faults.asked import only_reads
from tests.faults.claims import Claims
from tests.faults.doers import Doers
from tests.faults.door import Door
from tests.faults.existence import Existence
from tests.faults.history import (
    DOOR,
    Life,
    Operation,
    Row,
    State,
    Step,
    bookings_in,
    contradiction,
    events_shown,
    milliseconds,
    redemptions_shown,
    state_of,
    tickets_shown,
)
from tests.faults.lives import ceiling, lives_of, tickets_of
from tests.faults.refusals import Refusals
from tests.faults.sale import buyers_of
from tests.faults.turns import Turns
from tests.faults.versions import states_of

BOOKINGS_PER_PAGE = 100
# A page ends early only if it would have more than so many.
TICKETS_PER_PAGE = 1_000
# Daemons that share a ledger know the clock of the database only so well.
SHARED_CLOCK_SLACK_MS = 1_100


def check(
    history: Sequence[Operation],
    events: Iterable[Row],
    daemons: Mapping[int, float] | None = None,
    changes: Sequence[order.Change] = (),
) -> None:
    """Raise AssertionError unless the history is right. ``events`` are those of the beginning, as ``list`` tells them.

    ``daemons`` are the ports of those that shared the ledger, and when each of them began; ``changes`` are those of the
    primary of their database.
    It must be a whole history: what was of unknown outcome was asked again, with the same id, until it was answered,
    and at the end all bookings were read, and all tickets that somebody asked for at the door. A hold whose ``confirm``
    nobody was answered is not cancelled. Only one client amends an event, and only one creates and deletes it.
    """
    lives = lives_of(history)
    known = {event["id"]: event for event in events}
    existence = Existence(history, known)
    states, steps = states_of(history, {**known, **_created(history, existence)}, lives)
    Checker(history, lives, existence, states, steps, bool(daemons), changes).check(daemons or {})


def _created(history: Sequence[Operation], existence: Existence) -> dict[str, Row]:
    """Return the events that were not there at first, as they were created, each time alike."""
    return {
        facts["id"]: facts
        for operation in history
        if operation.cmd == "create"
        for facts in events_shown(operation)
        if facts["id"] in existence.events
    }


class Checker:
    """Checks what was changed and what was read; ``refusals`` checks what was refused."""

    def __init__(
        self,
        history: Sequence[Operation],
        lives: Mapping[str, Life],
        existence: Existence,
        states: Mapping[str, Sequence[State]],
        steps: Mapping[str, Mapping[int, Step]],
        shared: bool,
        primaries: Sequence[order.Change],
    ) -> None:
        self._history = history
        self._lives = lives
        self._tickets = tickets_of(lives)
        self._existence = existence
        self._states = states
        self._steps = steps
        self._shared = shared
        self._primaries = primaries
        self._slack = SHARED_CLOCK_SLACK_MS if shared else 0
        self._claims = Claims(history, lives, self._tickets)
        self._claim = self._claims.claim
        self._door = Door(self._claims, self._slack)
        self._booking_ids = sorted(lives)
        self._buyers = buyers_of(states, steps)
        self._turns = Turns(states, steps, self._buyers, self._slack)
        self._doers = Doers(self._claims, self._turns, self._slack)

    def check(self, daemons: Mapping[int, float]) -> None:
        """Raise AssertionError if a reply is not true, or is at odds with what was before it or after it."""
        self._doers.check(self._steps)
        self._door.check()
        refusals = Refusals(
            self._claims, self._door, self._existence, self._states, self._buyers, self._slack, self._doers.doer
        )
        for operation in self._history:
            if operation.code:
                refusals.check(operation)
            elif operation.reply:
                self._check_reading(operation)
        self._claims.check_order(daemons, self._primaries)

    def _check_reading(self, operation: Operation) -> None:
        """What is read of events, bookings and tickets is what they were at a moment."""
        for facts in events_shown(operation):
            self._check_event(operation, facts)
        if operation.cmd == "list":
            self._check_list(operation)
        if operation.cmd in ("create", "delete"):
            self._check_existence(operation)
        if operation.cmd in DOOR or not operation.changed:
            redemptions = redemptions_shown(operation)
            for facts in bookings_in(operation):
                self._check_booking(operation, facts, redemptions.get(facts["id"]))
        elif operation.cmd == "wait":
            self._check_joined(operation)
        for facts in tickets_shown(operation):
            self._check_ticket(operation, facts)
        if operation.cmd == "bookings":
            self._check_page(operation)

    def _check_joined(self, operation: Operation) -> None:
        """Whoever joins a line is the last in it."""
        for facts in bookings_in(operation):
            last = self._states[facts["event"]][facts["version"]].waiting if facts["state"] == "waiting" else None
            if facts.get("position") != last:
                raise contradiction(f"whoever joins is the last in line, number {last}", operation)

    def _check_list(self, operation: Operation) -> None:
        shown = {facts["id"] for facts in events_shown(operation)}
        if shown - self._existence.events != self._states.keys() - self._existence.events:
            raise contradiction("these are not all events", operation)
        for event in self._existence.events - shown:
            self._read_existence(operation, event, exists=False)

    def _check_existence(self, operation: Operation) -> None:
        """What is created was not there, what is created again was there, and what is deleted was there."""
        exists = operation.cmd == "delete" or operation.replayed
        event = (operation.reply or {})["id"]
        self._read_existence(operation, event, exists=exists)
        life_began = next((version for version in sorted(self._steps.get(event, ()))), None)
        if operation.cmd == "delete" and life_began is not None:
            self._claim("event", event, operation, -inf, 2 * life_began - 1)

    def _read_existence(self, operation: Operation, event: str, *, exists: bool) -> None:
        self._existence.read(
            operation, event, exists=exists, lags=self._shared and order.may_be_of_the_past(operation, self._primaries)
        )

    def _check_event(self, operation: Operation, facts: Row) -> None:
        event, version = facts["id"], facts["version"]
        if event in self._existence.events and operation.cmd not in ("create", "delete"):
            self._read_existence(operation, event, exists=True)
        if self._states[event][version] != state_of(facts):
            raise contradiction(
                f"event {event} was never this: at version {version} it is {self._states[event][version]}",
                operation,
                *(self._steps[event][version].shown_by[:1] if version else ()),
            )
        if operation.cmd == "create":
            # Again, it is told as it was created.
            first, last = (-inf, 1.0) if operation.changed else (1.0, inf)
            self._claim("event", event, operation, first, last)
        elif operation.cmd != "delete" and not operation.changed:
            self._claim("event", event, operation, 2 * version + 1, 2 * version + 1)
        self._turns.check_shown(operation, event, version)

    def _check_booking(self, operation: Operation, facts: Row, redeemed: dict[str, str] | None) -> None:
        life = self._lives[facts["id"]]
        version = facts["version"]
        following = life.place(version) + 1
        # What is replayed is past; what is shown is the last that there was.
        lasts = only_reads(operation) and following < len(life.changes)
        last = 2 * life.changes[following].version - 1 if lasts else inf
        self._claim("event", life.event, operation, 2 * version + 1, last)
        self._check_position(operation, facts, life)
        if redeemed is not None:
            self._door.read_booking(operation, facts, redeemed)
        if operation.cmd == "extend":
            wanted = operation.since - self._slack + 1_000 * operation.request["seconds"]
            if wanted > (expires := milliseconds(facts["expires"])) and expires != ceiling(life):
                raise contradiction(f"booking {facts['id']} could have been extended", operation)

    def _check_position(self, operation: Operation, facts: Row, life: Life) -> None:
        """Who reads a booking that waits is told how many are before it; in reply to ``wait``, only the first time."""
        position, told = facts.get("position"), only_reads(operation) and facts["state"] == "waiting"
        if position is None and not told:
            return
        span = self._turns.span(life, position) if position and told else None
        if span is None:
            raise contradiction(f"booking {facts['id']} never had this place in line: {position}", operation)
        first, last = span
        self._claim("event", life.event, operation, 2 * first + 1, 2 * last + 1)

    def _check_ticket(self, operation: Operation, facts: Row) -> None:
        id, state = facts["id"], facts["state"]
        ticket = self._tickets.get(id)
        life = self._lives.get(ticket.booking) if ticket else None
        if not ticket or not life or (facts["booking"], facts["event"]) != (ticket.booking, life.event):
            raise contradiction(f"ticket {id} is of no such booking", operation)
        if operation.cmd == "reissue":
            if ticket.born.tickets != (operation.request["ticket"], id) or state != "valid":
                raise contradiction(f"{operation.request['ticket']} was never replaced by {id}", operation)
            if not operation.changed:
                self._claim("event", life.event, operation, 2 * ticket.born.version + 1, inf)
            return
        ending = {"cancelled": "cancel", "reissued": "reissue"}.get(state)
        if ending and (ticket.ended is None or ticket.ended.what != ending):
            raise contradiction(f"ticket {id} was never {state}", operation)
        first, last = ticket.born.version, inf
        if ticket.ended and ending:
            first = ticket.ended.version
        elif ticket.ended and not (operation.cmd == "redeem" and operation.replayed):
            last = 2 * ticket.ended.version - 1
        self._claim("event", life.event, operation, 2 * first + 1, last)
        if not operation.changed:
            self._door.read_ticket(operation, facts)

    def _check_page(self, operation: Operation) -> None:
        """What is not in a page that it should be in was not there yet. There is more if the page says so."""
        reply, request = operation.reply or {}, operation.request
        if (event := request.get("event")) in self._existence.events:
            self._read_existence(operation, str(event), exists=True)
        bookings = reply["bookings"]
        page, more = [facts["id"] for facts in bookings], reply.get("more", False)
        after, limit = request.get("after", ""), request.get("limit", BOOKINGS_PER_PAGE)
        last = reply.get("last", "")
        wrong = page != sorted(page) or len(page) > limit or (page and page[0] <= after) or more != bool(last)
        if wrong or (more and last < max([after, *page])) or not all(self._belongs(id, request) for id in page):
            raise contradiction("this page has not the bookings that were asked for", operation)
        ids = self._booking_ids
        start = bisect_right(ids, after)
        end = bisect_right(ids, last) if more else len(ids)
        if more and not ("event" in request or "buyer" in request) and not (page and len(page) == limit and ids[end:]):
            # It ends early, but not empty, if with the next booking it had more than TICKETS_PER_PAGE.
            largest = max((self._lives[id].quantity for id in ids[end:]), default=0)
            if not page or largest + sum(len(facts["tickets"]) for facts in bookings) <= TICKETS_PER_PAGE:
                raise contradiction("this page says that there is more", operation)
        absent = [id for id in {*ids[start:end]} - {*page} if self._belongs(id, request)]
        # If the first of an event was not there yet, none was.
        absent.sort(key=lambda id: self._lives[id].changes[0].version, reverse=True)
        for id in {self._lives[id].event: id for id in absent}.values():
            self._claims.claim_absent(operation, id)

    def _belongs(self, id: str, request: Row) -> bool:
        """Whether a booking belongs to the event and the buyer that a page is asked for."""
        life = self._lives[id]
        return request.get("event") in (None, life.event) and request.get("buyer") in (None, life.buyer)
