"""The versions of events: which change made each of them, and the counts and terms after it. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import inf
from typing import NamedTuple

from tests.faults.history import (
    DOOR,
    Life,
    Operation,
    Row,
    State,
    Step,
    contradiction,
    events_shown,
    movement,
    state_of,
)


class Amendments(NamedTuple):
    """What was asked of an event by the only one who amends it: without an answer, and with one, by version."""

    lost: list[Operation]
    answered: list[tuple[Operation, int]]

    def of(self, version: int) -> list[Operation]:
        """Return those without an answer that can have made a version, by the answers before and after them."""
        return [operation for operation in self.lost if self._can_have_made(operation, version)]

    def _can_have_made(self, operation: Operation, version: int) -> bool:
        before = (known for other, known in self.answered if other.answered < operation.invoked)
        after = (known for other, known in self.answered if operation.invoked < other.invoked)
        return max(before, default=-1) < version <= min(after, default=inf)


def states_of(
    history: Sequence[Operation], events: Mapping[str, Row], lives: Mapping[str, Life]
) -> tuple[dict[str, list[State]], dict[str, dict[int, Step]]]:
    """Every version is one change and none is missing; after each, the counts are what it makes of those before it."""
    steps = _steps(history, lives)
    shown, amendments = _counts_shown(history, lives), _amendments(history)
    states: dict[str, list[State]] = {}
    for event, facts in events.items():
        state = state_of(facts)
        if state.capacity != state.available + state.held + state.sold:
            raise contradiction(f"event {event} does not add up: {state}")
        of_versions = states[event] = [state]
        of_event = steps[event]
        for version in range(1, max([0, *of_event, *shown[event]]) + 1):
            if version not in of_event:
                of_event[version] = _lost_amend(event, version, state, amendments[event], of_event, shown[event])
            step = of_event[version]
            after = step.after(state)
            if after.available != step.available or min(after.available, after.held, after.sold, after.waiting) < 0:
                raise contradiction(
                    f"event {event} at version {version}: {step.what} cannot make {step.available} available"
                    f" of {state.available}, with {after}",
                    *(of_event[version - 1].shown_by[:1] if version > 1 else ()),
                    step.shown_by[0],
                )
            state = after
            of_versions.append(state)
    return states, steps


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
    """Return the event whose version the refusal of an operation tells."""
    request = operation.request
    if operation.cmd not in DOOR and "event" in request:
        return str(request["event"])
    booking = subject(operation)
    if booking not in lives:
        raise contradiction("it is refused for the state of a booking that nobody ever saw", operation)
    return lives[booking].event


def subject(operation: Operation) -> str:
    """Return the booking that an operation is about: that of its ticket, or a whole one, at the door."""
    return str(operation.request.get("booking") or operation.request["ticket"])


def _amendments(history: Sequence[Operation]) -> dict[str, Amendments]:
    amendments: dict[str, Amendments] = defaultdict(lambda: Amendments([], []))
    for operation in history:
        if operation.cmd == "amend":
            of_event = amendments[operation.request["event"]]
            if operation.unknown:
                of_event.lost.append(operation)
            elif operation.reply and "version" in operation.reply:
                of_event.answered.append((operation, operation.reply["version"]))
    return amendments


def _lost_amend(
    event: str, version: int, before: State, amendments: Amendments, steps: dict[int, Step], shown: dict[int, int]
) -> Step:
    """Find the ``amend`` that made a version that no reply shows, since no event remembers its versions."""
    available = shown.get(version)
    following = steps.get(version + 1)
    if available is None and following and following.what != "amend":
        available = following.available - sum(movement(change)[0] for change in following.changes)
    for operation in amendments.of(version):
        after = before.amended(operation.request)
        if after != before and available in (None, after.available):
            amendments.lost.remove(operation)
            return Step("amend", after.available, [operation])
    raise contradiction(
        f"nothing explains version {version} of event {event}",
        *(steps[version - 1].shown_by[:1] if version > 1 else ()),
        *(following.shown_by[:1] if following else ()),
    )
