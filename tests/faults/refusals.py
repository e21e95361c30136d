"""Proves that each refusal was true at a moment when it can have been decided."""

from collections.abc import Callable, Mapping, Sequence
from math import inf

from tests.faults.claims import Claims
from tests.faults.door import Door
from tests.faults.existence import Existence
from tests.faults.history import NOT_DONE, Change, Life, Operation, State, contradiction
from tests.faults.sale import Buyers, is_not_on_sale, is_over_limit
from tests.faults.versions import event_of, subject
from ticketd.model import WAITING_MAX

_CROSSED = {
    "already_confirmed": ("confirmed",),
    "already_released": ("released",),
    "already_cancelled": ("cancelled",),
    "hold_expired": ("expired",),
    "bad_request": ("held", "waiting"),
}
_ENDS = {"already_cancelled": "cancel", "already_reissued": "reissue"}


class Refusals:
    """What the checker knows of a history, and which refusals that makes true."""

    def __init__(
        self,
        claims: Claims,
        door: Door,
        existence: Existence,
        states: Mapping[str, Sequence[State]],
        buyers: Buyers,
        slack: float,
        doer: Callable[[Change], Operation],
    ) -> None:
        self._claims = claims
        self._lives = claims.lives
        self._tickets = claims.tickets
        self._door = door
        self._existence = existence
        self._states = states
        self._buyers = buyers
        self._slack = slack
        self._doer = doer

    def check(self, operation: Operation) -> None:
        """Raise AssertionError if what the refusal says was never so."""
        state = self._state(operation)
        if not self._is_true(operation, state):
            raise contradiction(f"the refusal was not true: {state or ''}", operation)

    def _state(self, operation: Operation) -> State | None:
        """Return the event at the version that the refusal tells, and claim that it was decided then."""
        reply = operation.reply or {}
        if "version" not in reply:
            return None
        event = event_of(operation, self._lives)
        state = self._states[event][reply["version"]]
        if reply["available"] != state.available:
            raise contradiction(f"event {event} was never this: {state} at version {reply['version']}", operation)
        moment = 2 * reply["version"] + 1
        self._claims.claim("event", event, operation, moment, moment)
        return state

    def _is_true(self, operation: Operation, state: State | None) -> bool:
        request, code = operation.request, str(operation.code)
        match code:
            case "sold_out":
                there = state and (state.capacity if operation.cmd == "wait" else state.available)
                return there is not None and there < request["quantity"]
            case "waiting_list_full":
                return state is not None and state.waiting >= WAITING_MAX
            case "not_on_sale":
                return state is not None and is_not_on_sale(operation, state, self._slack)
            case "buyer_limit":
                return state is not None and self._is_over_limit(operation, state)
            case "bad_request" if operation.cmd in ("book", "hold", "wait"):
                return self._needed_a_buyer(operation)
            case "capacity_below_sold":
                return state is not None and request["capacity"] < state.held + state.sold
            case "event_in_use":
                self._read_existence(operation, request["event"], exists=True)
                return bool((operation.reply or {})["version"])
            case "event_not_found":
                self._read_existence(operation, request["event"], exists=False)
                return True
            case "event_exists":
                self._read_existence(operation, request["id"], exists=True)
                return True
            case "already_cancelled" | "already_redeemed" | "already_reissued":
                return self._was_spent(operation)
            case "already_confirmed" | "already_released" | "hold_expired" | "bad_request":
                return self._was_in_another_state(operation, state)
            case "booking_conflict":
                return self._is_another(operation)
            case "not_redeemed" | "wrong_event":
                return self._was_refused_at_the_door(operation)
            case "booking_not_found" | "ticket_not_found" | "not_found":
                return self._was_absent(operation)
            case _:
                return code in NOT_DONE or code == "outcome_unknown"

    def _read_existence(self, operation: Operation, event: str, *, exists: bool) -> None:
        self._existence.read(operation, event, exists=exists, lags=False)

    def _is_over_limit(self, operation: Operation, state: State) -> bool:
        version = (operation.reply or {})["version"]
        if operation.cmd == "confirm":
            life = self._lives[operation.request["booking"]]
            if life.state(version) != "expired" or not operation.request.get("late"):
                return False
            event, buyer, quantity = life.event, life.buyer, life.quantity
        else:
            request = operation.request
            event, buyer, quantity = request["event"], request.get("buyer"), request["quantity"]
        return buyer is not None and is_over_limit(
            operation, state, self._buyers.owned(event, buyer, version), quantity
        )

    def _needed_a_buyer(self, operation: Operation) -> bool:
        """Whether the event had a limit, which then is between the first and the last version with one."""
        event = operation.request["event"]
        limited = [version for version, state in enumerate(self._states[event]) if state.per_buyer is not None]
        if not limited or "buyer" in operation.request:
            return False
        last = inf if limited[-1] == len(self._states[event]) - 1 else 2 * limited[-1] + 1
        self._claims.claim("event", event, operation, 2 * limited[0] + 1, last)
        return True

    def _was_in_another_state(self, operation: Operation, state: State | None) -> bool:
        life = self._lives[subject(operation)]
        if state is None or life.state((operation.reply or {})["version"]) not in _CROSSED[str(operation.code)]:
            return False
        if operation.code == "already_confirmed" and operation.cmd == "confirm":
            return life.changes[0].what == "book"
        if operation.code == "hold_expired" and operation.request.get("late"):
            return state.available < life.quantity
        return True

    def _was_spent(self, operation: Operation) -> bool:
        """Whether what was asked for was redeemed, cancelled or reissued already."""
        if "ticket" not in operation.request:
            return self._was_spent_by_version(operation)
        id = operation.request["ticket"]
        if id in self._lives:
            return self._was_spent_as_a_whole(operation, self._lives[id])
        ticket = self._tickets.get(id)
        if ticket is None:
            return False
        life = self._lives[ticket.booking]
        if operation.code == "already_redeemed":
            return self._was_redeemed(operation, [id])
        if ticket.ended is None or ticket.ended.what != _ENDS[str(operation.code)]:
            return False
        self._claims.claim("event", life.event, operation, 2 * ticket.ended.version + 1, inf)
        return True

    def _was_spent_as_a_whole(self, operation: Operation, life: Life) -> bool:
        if operation.code == "already_redeemed":
            return self._was_redeemed(
                operation, [ticket for change in life.changes for ticket in change.facts["tickets"]]
            )
        last = life.changes[-1]
        if operation.code != "already_cancelled" or last.facts["state"] != "cancelled":
            return False
        self._claims.claim("event", life.event, operation, 2 * last.version + 1, inf)
        return True

    def _was_spent_by_version(self, operation: Operation) -> bool:
        life, version = self._lives[operation.request["booking"]], (operation.reply or {})["version"]
        if operation.cmd != "cancel":
            return life.state(version) in _CROSSED.get(str(operation.code), ())
        tickets = operation.request.get("tickets") or life.facts(version).get("tickets", [])
        if operation.code == "already_redeemed":
            return self._was_redeemed(operation, tickets)
        ends = [self._tickets[ticket].ended for ticket in tickets if ticket in self._tickets]
        return any(end and end.what == _ENDS[str(operation.code)] and end.version <= version for end in ends)

    def _was_redeemed(self, operation: Operation, tickets: Sequence[str]) -> bool:
        """Whether one of these was redeemed at the time that the refusal tells."""
        if operation.cmd == "redeem" and self._door.was_done_before(operation):
            raise contradiction("this scan let somebody in, and is refused when it is asked again", operation)
        at = (operation.reply or {})["redeemed_at"]
        moments = {ticket: self._door.redeemed_then(ticket, at) for ticket in tickets}
        redeemed = {ticket: moment for ticket, moment in moments.items() if moment[0] < inf}
        if len(redeemed) == 1:
            [(ticket, (first, last))] = redeemed.items()
            self._claims.claim("ticket", ticket, operation, first, last)
        return bool(redeemed)

    def _was_refused_at_the_door(self, operation: Operation) -> bool:
        """Whether a ticket was of another event, or had never been redeemed."""
        id = operation.request["ticket"]
        ticket = self._tickets.get(id)
        life = self._lives.get(ticket.booking if ticket else id)
        if life is None:
            return False
        born = ticket.born if ticket else life.changes[0]
        self._claims.claim("event", life.event, operation, 2 * born.version + 1, inf)
        if operation.code == "wrong_event":
            return operation.request.get("event") not in (None, life.event)
        self._claims.claim("ticket", id, operation, 1, 1)
        return True

    def _was_absent(self, operation: Operation) -> bool:
        request = operation.request
        id = request.get("booking") or request.get("ticket") or request["id"]
        if id in self._existence.events:
            self._read_existence(operation, id, exists=False)
        self._claims.claim_absent(operation, id)
        return True

    def _is_another(self, operation: Operation) -> bool:
        """Whether the id of a booking stood for another one."""
        life = self._lives.get(operation.request["booking"])
        if life is None:
            return False
        self._claims.claim("event", life.event, operation, 2 * life.changes[0].version + 1, inf)
        return self._doer(life.changes[0]).request != operation.request
