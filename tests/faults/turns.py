"""Proves that what became available went to the first in line whom it was enough for, in the same commit. Pure.

All follows from the versions of an event. Before each of them it is known who waits, in the order of arrival, and what
is available. Whoever is the first whom that is enough for has to be offered it next: with the change that made it
available, or at the latest before anything else is decided, if the sale has opened since.

A commit offers so many tickets of all events at most. The next one goes on, and meanwhile nobody else gets any.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import inf

from tests.faults.history import Change, Life, Operation, State, Step, contradiction
from tests.faults.sale import Buyers

# So many tickets of an event are offered in a commit, whatever it offers of others. It need not offer twice as many.
OFFERED_SURELY = 500
# What the public gets while others wait in line.
_PUBLIC = ("book", "hold", "late")
# An earliest and a latest time, in milliseconds since 1970.
_When = tuple[float, float]


class Turns:
    """Whose turn it was at each version of each event."""

    def __init__(
        self,
        states: Mapping[str, Sequence[State]],
        steps: Mapping[str, Mapping[int, Step]],
        buyers: Buyers,
        slack: float,
    ) -> None:
        self._states = states
        self._buyers = buyers
        self._slack = slack
        # By event, in order: when somebody left its line, and when that one had joined.
        self._exits: dict[str, list[tuple[int, int]]] = defaultdict(list)
        # Bookings that left at their turn, since the limit of a buyer was lowered.
        self.left_at_turn: set[str] = set()
        # Versions of events that no commit ended with.
        self._within: set[tuple[str, int]] = set()
        for event, of_event in states.items():
            if any(state.waiting for state in of_event):
                self._check_line(event, of_event, steps[event])

    def check_shown(self, operation: Operation, event: str, version: int) -> None:
        """Check that what was read of an event is committed: nobody in line has a turn."""
        if operation.cmd in ("list", "show", "watch") and (event, version) in self._within:
            raise contradiction(f"event {event} is shown at version {version}, before somebody's turn", operation)

    def span(self, life: Life, position: int) -> tuple[float, float] | None:
        """Return the first and the last version at which a booking had a position in line, or None for none."""
        joined = life.changes[0].version
        left = [version for version, other in self._exits[life.event] if other < joined < version]
        gone = self._states[life.event][joined].waiting - position
        if not 0 <= gone <= len(left):
            return None
        return left[gone - 1] if gone else joined, left[gone] - 1 if gone < len(left) else inf

    def _check_line(self, event: str, states: Sequence[State], steps: Mapping[int, Step]) -> None:
        # In the order of arrival.
        line: list[Change] = []
        offered = _Offered()
        for version in range(1, len(states)):
            before, step = states[version - 1], steps[version]
            first = _first(line, before)
            ends = self._ends_wait(line, step)
            if ends and ends is first and self._is_turn(event, before, step):
                self._check_time(event, before, steps.get(version - 1), step, first, offered)
                offered.add(step, first)
                if step.what == "leave":
                    self.left_at_turn.add(first.facts["id"])
            elif step.what == "offer":
                raise contradiction(
                    f"event {event}, version {version}: this was not the first in line whom {before.available} are"
                    f" enough for: that was {first.facts['id'] if first else 'nobody'}",
                    step.shown_by[0],
                )
            elif first:
                self._check_nobody_is_passed_over(event, before, steps.get(version - 1), step, first, offered)
            if ends:
                line.remove(ends)
                self._exits[event].append((version, ends.version))
            elif step.what == "wait":
                line.append(step.changes[0])
        self._check_end(event, states[-1], steps.get(len(states) - 1), line, offered)

    def _check_end(
        self, event: str, state: State, last: Step | None, line: Sequence[Change], offered: "_Offered"
    ) -> None:
        """In the end, nobody in line has a turn."""
        first, when = _first(line, state), self._when(last)
        if last and first and when and _is_on_sale(state, when) and offered.has_room(when, first):
            raise contradiction(f"event {event}: {first.facts['id']} was offered nothing", last.shown_by[0])

    def _ends_wait(self, line: Sequence[Change], step: Step) -> Change | None:
        """Return who leaves the line with a step."""
        if step.what not in ("offer", "leave"):
            return None
        return next(waits for waits in line if waits.facts["id"] == step.changes[0].facts["id"])

    def _is_turn(self, event: str, before: State, step: Step) -> bool:
        """Whether somebody is offered tickets, or leaves the line instead, since the limit of a buyer was lowered."""
        [change] = step.changes
        was_asked = any(of.cmd == "release" and of.changed for of in change.shown_by)
        return step.what == "offer" or (not was_asked and self._has_too_many(event, before, change))

    def _has_too_many(self, event: str, before: State, change: Change) -> bool:
        buyer = change.facts.get("buyer")
        owned = self._buyers.owned(event, buyer, change.version - 1)
        return before.per_buyer is not None and (buyer is None or owned > before.per_buyer)

    def _check_time(
        self, event: str, before: State, last: Step | None, step: Step, first: Change, offered: "_Offered"
    ) -> None:
        """What can be offered with the step before this one is not offered later."""
        when = self._when(last)
        if when is None or not _is_on_sale(before, when) or not offered.has_room(when, first):
            return
        at = step.changes[0].at
        if at is not None and not when[0] <= at <= when[1]:
            raise contradiction(f"event {event}, version {step.changes[0].version}: this came late", step.shown_by[0])
        self._within.add((event, step.changes[0].version - 1))

    def _check_nobody_is_passed_over(
        self, event: str, before: State, last: Step | None, step: Step, first: Change, offered: "_Offered"
    ) -> None:
        # Holds run out before a commit offers anything.
        times = [self._when(last), None if step.what == "expire" else self._when(step)]
        on_sale = [when for when in times if when and _is_on_sale(before, when)]
        if any(offered.has_room(when, first) for when in on_sale) or (on_sale and step.what in _PUBLIC):
            raise contradiction(
                f"event {event}: {first.facts['id']} was passed over, the first in line whom {before.available} are"
                f" enough for",
                *(last.shown_by[:1] if last else ()),
                step.shown_by[0],
            )

    def _when(self, step: Step | None) -> _When | None:
        """Return when a step was decided. Only of an ``amend``, no reply tells the very time."""
        if step is None:
            return None
        if step.changes:
            at = step.changes[0].at
            return None if at is None else (at, at)
        [operation] = step.shown_by
        return operation.since - self._slack, operation.until + self._slack


class _Offered:
    """How many tickets of an event were offered, and when."""

    def __init__(self) -> None:
        self._offers: list[tuple[int, int]] = []

    def add(self, step: Step, first: Change) -> None:
        """Add a turn. Whoever leaves at it ends what a commit offers: it may not have read who comes next."""
        tickets = first.facts["quantity"] if step.what == "offer" else OFFERED_SURELY
        if (at := step.changes[0].at) is not None:
            self._offers.append((at, tickets))

    def has_room(self, when: _When, first: Change) -> bool:
        """Whether the commit of a time surely offers as many tickets more as somebody waits for."""
        tickets = first.facts["quantity"]
        for at, quantity in reversed(self._offers):
            if at < when[0]:
                break
            tickets += quantity
        return bool(tickets <= OFFERED_SURELY)


def _first(line: Sequence[Change], state: State) -> Change | None:
    """Return the first in line whom what is available is enough for."""
    return next((waits for waits in line if waits.facts["quantity"] <= state.available), None)


def _is_on_sale(state: State, when: _When) -> bool:
    """Whether an event was surely on sale at some time."""
    return all(state.is_on_sale(time) for time in when)
