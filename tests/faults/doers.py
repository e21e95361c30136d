"""Proves that each change of a booking was done once, for one who asked for just that. Pure.

What nobody asks for are holds that run out, and what becomes of those in line at their turn.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tests.faults.asked import asks_for, only_reads
from tests.faults.claims import Claims, one
from tests.faults.history import CHANGES_OF_BOOKINGS, Change, Life, Operation, Step, contradiction, milliseconds
from tests.faults.turns import Turns


class Doers:
    """Who asked for what."""

    def __init__(self, claims: Claims, turns: Turns, slack: float) -> None:
        self._claims = claims
        self._turns = turns
        self._slack = slack
        # Extensions whose outcome is unknown, by the booking and the version that each has made.
        self._extended: dict[Operation, tuple[str, int]] = {}
        self._asked: dict[tuple[str, str], list[Operation]] = defaultdict(list)
        for operation in claims.history:
            if operation.cmd == "reissue":
                self._asked["reissue", operation.request["ticket"]].append(operation)
            elif operation.cmd in CHANGES_OF_BOOKINGS and "booking" in operation.request:
                self._asked[operation.cmd, operation.request["booking"]].append(operation)

    def check(self, steps: Mapping[str, Mapping[int, Step]]) -> None:
        """Every change was done once, for one who asked for just that and got no reply that it was not done."""
        for event, of_event in steps.items():
            for version, step in of_event.items():
                for change in step.changes:
                    if step.what == "offer":
                        self._check_shown_at_once(change)
                    elif step.what != "expire" and not self._left_at_turn(change):
                        self._claims.claim("event", event, self.doer(change), 2 * version, 2 * version)
                if step.what == "amend":
                    self._claims.claim("event", event, step.shown_by[0], 2 * version, 2 * version)
        for life in self._claims.lives.values():
            for before, change in zip(life.changes, life.changes[1:], strict=False):
                if change.what == "expire" and change.at and change.at < milliseconds(before.facts["expires"]):
                    raise contradiction(f"booking {change.facts['id']} ran out before its time", *change.shown_by[:1])

    def _left_at_turn(self, change: Change) -> bool:
        return change.what == "leave" and change.facts["id"] in self._turns.left_at_turn

    def _check_shown_at_once(self, offer: Change) -> None:
        """Only who has waited for nothing has an offer in reply to ``wait``, each time."""
        life = self._claims.lives[offer.facts["id"]]
        for operation in _told(offer):
            if operation.cmd != "wait" or not _is_offered_at_once(life):
                raise contradiction(f"booking {offer.facts['id']} was not held at once", operation)

    def doer(self, change: Change) -> Operation:
        """Return who asked for a change of a booking. Raises AssertionError if that can be nobody, or several."""
        booking = change.facts["id"]
        life = self._claims.lives[booking]
        what = f"{change.what} of {booking}, version {change.version},"
        if change.what == "reissue":
            asked = self._asked["reissue", change.tickets[0]]
            fresh = [operation for operation in asked if operation.changed]
            doer = one(what, fresh, [operation for operation in asked if operation.unknown], change.shown_by)
        else:
            cmd = {"late": "confirm", "leave": "release"}.get(change.what, change.what)
            shown = _told(change)
            if change.what == "wait" and _is_offered_at_once(life):
                if shown:
                    raise contradiction(f"booking {booking} had its tickets at once", *shown)
                shown = _told(life.changes[1])
            for operation in shown:
                # What was confirmed late is replayed for anyone who confirms it.
                request = {**operation.request, "late": True} if operation.replayed else operation.request
                if not asks_for(request, change, life):
                    raise contradiction(f"this is not what was asked for: {change.what} of {booking}", operation)
            fresh = [operation for operation in shown if operation.changed]
            doer = one(what, fresh, [] if fresh else self._lost(cmd, change), change.shown_by)
        if change.at and not (doer.since - self._slack <= change.at and (doer.unknown or self._in_time(doer, change))):
            raise contradiction(f"{what} was not then", doer)
        return doer

    def _lost(self, cmd: str, change: Change) -> Sequence[Operation]:
        """Return those who asked for a change and were not answered. Each of them made one change at most."""
        booking = change.facts["id"]
        lost = [
            of
            for of in self._asked[cmd, booking]
            if of.unknown and asks_for(of.request, change, self._claims.lives[booking])
        ]
        if cmd != "extend":
            return lost
        # Only a hold can be changed twice by the same request: the first to ask made the first change.
        made = (booking, change.version)
        mine = [of for of in sorted(lost, key=lambda of: of.invoked) if self._extended.get(of, made) == made][:1]
        self._extended.update(dict.fromkeys(mine, made))
        return mine

    def _in_time(self, doer: Operation, change: Change) -> bool:
        return change.at is None or change.at <= doer.until + self._slack


def _told(change: Change) -> list[Operation]:
    """Return those whose replies tell a change as what they asked for."""
    return [of for of in change.shown_by if of.cmd in CHANGES_OF_BOOKINGS and not only_reads(of)]


def _is_offered_at_once(life: Life) -> bool:
    """Whether a booking joined the line and got its tickets by the same request."""
    first, second = [*life.changes[:2], None, None][:2]
    if not first or not second or second.what != "offer" or any(of.changed for of in _told(first)):
        return False
    return (second.version, second.at) == (first.version + 1, first.at)
