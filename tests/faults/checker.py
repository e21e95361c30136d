"""Proves that a recorded history of clients and their replies is right, or names the operations that contradict.

In the life of an event, change number v is moment 2v, and what it leaves is moment 2v + 1. Every reply says at which
moments it can have been decided; real time and the order of a connection must agree. Redeeming changes no event, so
each ticket has moments of its own: valid is 1, its redemption is 2, redeemed is 3.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf

from tests.faults import order
from tests.faults.history import (
    CHANGES_OF_BOOKINGS,
    NOT_DONE,
    Change,
    Life,
    Operation,
    Row,
    State,
    Step,
    bookings_shown,
    contradiction,
    event_of,
    events_shown,
    lives_of,
    redemptions_of,
    redemptions_shown,
    state_of,
    states_of,
    tickets_of,
    tickets_shown,
)
from tests.faults.order import Claim, check_order

BOOKINGS_PER_PAGE = 100
# A page ends early only if it would have more than so many.
TICKETS_PER_PAGE = 1_000
_CROSSED = {
    "already_confirmed": "confirmed",
    "already_released": "released",
    "hold_expired": "expired",
    "bad_request": "held",
}
_VALID, _REDEMPTION, _REDEEMED = 1, 2, 3


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
    and at the end all bookings were read. A hold whose ``confirm`` nobody was answered is not cancelled.
    """
    lives = lives_of(history)
    tickets = tickets_of(lives)
    redeemed = redemptions_of(history)
    states, steps = states_of(history, {event["id"]: event for event in events}, lives)
    Claims(history, lives, tickets, redeemed, states, steps).check(daemons or {}, changes)


class Claims:
    """When each operation can have been decided, in the lives of events and tickets."""

    def __init__(
        self,
        history: Sequence[Operation],
        lives: Mapping[str, Life],
        tickets: Mapping[str, str],
        redeemed: Mapping[str, str],
        states: Mapping[str, Sequence[State]],
        steps: Mapping[str, Mapping[int, Step]],
    ) -> None:
        self._history = history
        self._lives = lives
        self._tickets = tickets
        self._redeemed = redeemed
        self._states = states
        self._steps = steps
        self._booking_ids = sorted(lives)
        self._asked: dict[tuple[str, str], list[Operation]] = defaultdict(list)
        for operation in history:
            if operation.cmd in CHANGES_OF_BOOKINGS and "booking" in operation.request:
                self._asked[operation.cmd, operation.request["booking"]].append(operation)
            elif operation.cmd == "redeem":
                self._asked["redeem", operation.request["ticket"]].append(operation)
        self._cancelled = {
            ticket: change.version for life in lives.values() for change in life.changes for ticket in change.tickets
        }
        self._by_subject: dict[tuple[str, str], dict[Operation, Claim]] = defaultdict(dict)

    def check(self, daemons: Mapping[int, float], changes: Sequence[order.Change]) -> None:
        """Raise AssertionError if a reply is not true, or is at odds with what was before it or after it."""
        self._check_changes()
        self._check_redemptions()
        for operation in self._history:
            if operation.code:
                self._check_refusal(operation)
            elif operation.reply:
                self._check_reading(operation)
        places = {operation: place for place, operation in enumerate(self._history)}
        for of_subject in self._by_subject.values():
            claims = sorted(of_subject.values(), key=lambda claim: places[claim.operation])
            check_order(claims, daemons, changes)

    def _claim(self, what: str, id: str, operation: Operation, first: float, last: float) -> None:
        """Note what an operation claims about the versions of an event, or the states of a ticket."""
        claims = self._by_subject[what, id]
        if operation in claims:
            _, first_before, last_before = claims[operation]
            first, last = max(first, first_before), min(last, last_before)
        if first > last:
            raise contradiction(f"{what} {id} was at no moment as this shows it", operation)
        claims[operation] = Claim(operation, first, last)

    def _check_changes(self) -> None:
        """Every change was done once, for one who asked for just that and got no reply that it was not done."""
        for event, steps in self._steps.items():
            for version, step in steps.items():
                for change in step.changes:
                    if step.what != "expire":
                        self._claim("event", event, self._doer(change), 2 * version, 2 * version)
                if step.what == "amend":
                    self._claim("event", event, step.shown_by[0], 2 * version, 2 * version)

    def _doer(self, change: Change) -> Operation:
        booking = change.facts["id"]
        shown = [operation for operation in change.shown_by if operation.cmd in CHANGES_OF_BOOKINGS]
        for operation in shown:
            if operation.cmd != change.what or not _asks_for(operation.request, change):
                raise contradiction(f"this is not what was asked for: {change.what} of {booking}", operation)
        fresh = [operation for operation in shown if operation.changed]
        lost = [
            operation
            for operation in self._asked[change.what, booking]
            if operation.unknown and _asks_for(operation.request, change)
        ]
        return _one(f"{change.what} of {booking}, version {change.version},", fresh, lost, change.shown_by)

    def _check_redemptions(self) -> None:
        """A ticket is redeemed once, for one who asked for it, and never cancelled."""
        for ticket in self._redeemed:
            asked = self._asked["redeem", ticket]
            fresh = [operation for operation in asked if operation.changed]
            lost = [operation for operation in asked if operation.unknown]
            doer = _one(f"redemption of {ticket}", fresh, lost, asked)
            if ticket in self._cancelled:
                raise contradiction(f"ticket {ticket} was redeemed and cancelled", doer)
            self._claim("ticket", ticket, doer, _REDEMPTION, _REDEMPTION)

    def _check_reading(self, operation: Operation) -> None:
        """What is read of events, bookings and tickets is what they were at a moment."""
        for facts in events_shown(operation):
            self._check_event(operation, facts)
        if operation.cmd == "list" and {facts["id"] for facts in events_shown(operation)} != self._states.keys():
            raise contradiction("these are not all events", operation)
        if not operation.changed:
            redemptions = redemptions_shown(operation)
            for facts in bookings_shown(operation):
                self._check_booking(operation, facts, redemptions.get(facts["id"]))
        for facts in tickets_shown(operation):
            self._check_ticket(operation, facts)
        if operation.cmd == "bookings":
            self._check_page(operation)
            self._check_past(operation)

    def _check_event(self, operation: Operation, facts: Row) -> None:
        version = facts["version"]
        if self._states[facts["id"]][version] != state_of(facts):
            raise contradiction(
                f"event {facts['id']} was never this: at version {version} it is {self._states[facts['id']][version]}",
                operation,
                *(self._steps[facts["id"]][version].shown_by[:1] if version else ()),
            )
        if not operation.changed:
            self._claim("event", facts["id"], operation, 2 * version + 1, 2 * version + 1)

    def _check_booking(self, operation: Operation, facts: Row, redeemed: dict[str, str] | None) -> None:
        life = self._lives[facts["id"]]
        version = facts["version"]
        following = life.place(version) + 1
        # What is replayed is past; what is shown is the last that there was.
        lasts = operation.cmd in ("show", "bookings") and following < len(life.changes)
        last = 2 * life.changes[following].version - 1 if lasts else inf
        self._claim("event", life.event, operation, 2 * version + 1, last)
        if redeemed is not None:
            for ticket in {*facts["tickets"]} - {*facts.get("cancelled", ())}:
                moment = _REDEEMED if ticket in redeemed else _VALID
                self._claim("ticket", ticket, operation, moment, moment)

    def _check_ticket(self, operation: Operation, facts: Row) -> None:
        ticket, state = facts["id"], facts["state"]
        booking = self._tickets.get(ticket)
        life = self._lives.get(booking or "")
        if not life or (facts["booking"], facts["event"]) != (booking, life.event):
            raise contradiction(f"ticket {ticket} is of no such booking", operation)
        if state == "cancelled" and ticket not in self._cancelled:
            raise contradiction(f"ticket {ticket} was never cancelled", operation)
        issued = life.issued
        assert issued
        first = self._cancelled[ticket] if state == "cancelled" else issued.version
        last = 2 * self._cancelled[ticket] - 1 if ticket in self._cancelled and state != "cancelled" else inf
        self._claim("event", life.event, operation, 2 * first + 1, last)
        if state != "cancelled" and not operation.changed:
            moment = _REDEEMED if state == "redeemed" else _VALID
            self._claim("ticket", ticket, operation, moment, moment)

    def _check_page(self, operation: Operation) -> None:
        """What is not in a page that it should be in was not there yet. There is more if the page says so."""
        assert operation.reply
        bookings = operation.reply["bookings"]
        page, more = [facts["id"] for facts in bookings], operation.reply.get("more", False)
        ids = self._booking_ids
        start = bisect_right(ids, operation.request.get("after", ""))
        end = bisect_right(ids, page[-1]) if more and page else len(ids)
        limit = operation.request.get("limit", BOOKINGS_PER_PAGE)
        if page != sorted(page) or len(page) > limit or (page and page[0] <= operation.request.get("after", "")):
            raise contradiction("this page has not the bookings that were asked for", operation)
        # It ends early, but not empty, if with the next booking it had more than TICKETS_PER_PAGE.
        largest = max((self._lives[id].quantity for id in ids[end:]), default=0)
        tickets = sum(len(facts["tickets"]) for facts in bookings)
        if more and not (page and ids[end:] and (len(page) == limit or tickets + largest > TICKETS_PER_PAGE)):
            raise contradiction("this page says that there is more", operation)
        for id in {*ids[start:end]} - {*page}:
            self._claim_absent(operation, id)

    def _check_past(self, operation: Operation) -> None:
        """The past of the bookings in a page is what replies showed when it was present."""
        assert operation.reply
        for facts in operation.reply["bookings"]:
            life = self._lives[facts["id"]]
            first, *others = life.changes[: life.place(facts["version"]) + 1]
            made = facts.get("made", facts)
            past = [(*change, frozenset(gone)) for *change, gone in facts.get("changes", ())]
            shown = [(change.what, change.facts["available"], change.version, change.tickets) for change in others]
            if past != shown or any(made[name] != first.facts[name] for name in ("available", "version")):
                raise contradiction(f"booking {facts['id']} has another past", first.shown_by[0], operation)

    def _claim_absent(self, operation: Operation, id: str) -> None:
        """A booking or a ticket did not exist."""
        life = self._lives.get(self._tickets.get(id, id))
        if life:
            born = life.issued if id in self._tickets else life.changes[0]
            assert born
            self._claim("event", life.event, operation, -inf, 2 * born.version - 1)

    def _check_refusal(self, operation: Operation) -> None:
        """A refusal was true at its version."""
        reply, request = operation.reply or {}, operation.request
        event, state = None, None
        if "version" in reply:
            event = event_of(operation, self._lives)
            state = self._states[event][reply["version"]]
            if reply["available"] != state.available:
                raise contradiction(f"event {event} was never this: {state} at version {reply['version']}", operation)
            self._claim("event", event, operation, 2 * reply["version"] + 1, 2 * reply["version"] + 1)
        match operation.code:
            case "sold_out":
                true = state is not None and state.available < request["quantity"]
            case "capacity_below_sold":
                true = state is not None and request["capacity"] < state.held + state.sold
            case "already_cancelled" | "already_redeemed":
                true = self._was_spent(operation)
            case "already_confirmed" | "already_released" | "hold_expired" | "bad_request":
                life = self._lives[request["booking"]]
                true = life.state(reply.get("version", -1)) == _CROSSED[operation.code]
                if operation.code == "already_confirmed":
                    true = true and (operation.cmd == "release" or life.changes[0].what == "book")
            case "booking_conflict":
                true = self._is_another(operation)
            case "booking_not_found" | "ticket_not_found" | "not_found":
                true = True
                self._claim_absent(operation, request.get("booking") or request.get("ticket") or request["id"])
            case "outcome_unknown":
                true = True
            case code:
                true = code in NOT_DONE
        if not true:
            raise contradiction(f"the refusal was not true: {state or ''}", operation)

    def _was_spent(self, operation: Operation) -> bool:
        """Whether what was to be redeemed, cancelled, confirmed or released was redeemed or cancelled already."""
        reply, request = operation.reply or {}, operation.request
        if operation.cmd == "redeem":
            ticket = request["ticket"]
            if operation.code == "already_redeemed":
                self._claim("ticket", ticket, operation, _REDEEMED, _REDEEMED)
                return True
            if ticket not in self._cancelled:
                return False
            event = self._lives[self._tickets[ticket]].event
            self._claim("event", event, operation, 2 * self._cancelled[ticket] + 1, inf)
            return True
        life = self._lives[request["booking"]]
        if operation.cmd != "cancel":
            return life.state(reply["version"]) == "cancelled"
        tickets = request.get("tickets") or (life.issued.facts["tickets"] if life.issued else [])
        if operation.code == "already_cancelled":
            return any(self._cancelled.get(ticket, inf) <= reply["version"] for ticket in tickets)
        redeemed = [ticket for ticket in tickets if self._redeemed.get(ticket) == reply["redeemed_at"]]
        if len(redeemed) == 1:
            self._claim("ticket", redeemed[0], operation, _REDEEMED, _REDEEMED)
        return bool(redeemed)

    def _is_another(self, operation: Operation) -> bool:
        """Whether the id of a booking stood for another one."""
        life = self._lives.get(operation.request["booking"])
        if life is None:
            return False
        self._claim("event", life.event, operation, 2 * life.changes[0].version + 1, inf)
        return self._doer(life.changes[0]).request != operation.request


def _asks_for(request: Row, change: Change) -> bool:
    """Whether a request asks for the change that was made."""
    facts = change.facts
    match request["cmd"]:
        case "book" | "hold":
            mine = (request["cmd"], request["event"], request["quantity"])
            return mine == (change.what, facts["event"], facts["quantity"])
        case "cancel" if "tickets" in request:
            return change.tickets == {*request["tickets"]}
        case "cancel":
            return bool(facts["state"] == "cancelled")
        case cmd:
            return bool(cmd == change.what)


def _one(what: str, fresh: Sequence[Operation], lost: Sequence[Operation], shown: Sequence[Operation]) -> Operation:
    """Return who did it: whose reply says so; or else the first whose outcome is unknown."""
    if len(fresh) > 1:
        raise contradiction(f"{what} was done twice", *fresh)
    if not fresh and not lost:
        raise contradiction(f"{what} was done, and nobody can have done it", *shown)
    return fresh[0] if fresh else min(lost, key=lambda operation: operation.invoked)
