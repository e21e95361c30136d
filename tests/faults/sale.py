"""Proves when an event was sold, and to whom: only while it was on sale, and to no buyer more than the limit. Pure.

All follows from the versions of an event: each booking is decided by the terms of the version before it.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence

from tests.faults.history import Change, Operation, State, Step, contradiction, gain, milliseconds


class Buyers:
    """How many tickets each buyer of an event held, had bought and waited for, at every version."""

    def __init__(self) -> None:
        self._owned: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)

    def owned(self, event: str, buyer: str | None, version: int) -> int:
        """Return how many it were at a version of the event."""
        of_buyer = self._owned.get((event, buyer or ""), [])
        place = bisect_right(of_buyer, version, key=lambda entry: entry[0])
        return of_buyer[place - 1][1] if place else 0

    def add(self, event: str, version: int, change: Change) -> None:
        """Count what a change gave a buyer, or took away."""
        if buyer := change.facts.get("buyer"):
            owned = self.owned(event, buyer, version)
            self._owned[event, buyer].append((version, owned + gain(change)))


def buyers_of(states: Mapping[str, Sequence[State]], steps: Mapping[str, Mapping[int, Step]]) -> Buyers:
    """At every version, nothing is sold that is not on sale, and nobody has more than the limit allows."""
    buyers = Buyers()
    for event, of_versions in states.items():
        for version in range(1, len(of_versions)):
            before = of_versions[version - 1]
            for change in steps[event][version].changes:
                if change.what in ("book", "hold", "wait", "offer"):
                    _check_on_sale(event, before, change)
                if change.what in ("book", "hold", "wait", "offer", "late") and before.per_buyer is not None:
                    _check_limit(event, before.per_buyer, buyers, change)
                buyers.add(event, version, change)
    return buyers


def _check_on_sale(event: str, before: State, change: Change) -> None:
    if before.paused or (change.at is not None and not before.is_on_sale(change.at)):
        raise contradiction(f"event {event} was not on sale before version {change.version}", change.shown_by[0])
    if before.per_buyer is not None and "buyer" not in change.facts:
        raise contradiction(f"event {event} has a limit, and sold to a buyer without a name", change.shown_by[0])


def _check_limit(event: str, limit: int, buyers: Buyers, change: Change) -> None:
    buyer = change.facts.get("buyer")
    owned = buyers.owned(event, buyer, change.version)
    if buyer and owned + gain(change) > limit:
        raise contradiction(
            f"event {event}: with version {change.version} a buyer has more than the limit of {limit},"
            f" since there were {owned}",
            change.shown_by[0],
        )


def is_not_on_sale(operation: Operation, state: State, slack: float) -> bool:
    """Whether the refusal ``not_on_sale`` is true, and tells when the sale will begin, if it will."""
    earliest, latest = operation.since - slack, operation.until + slack
    opens = (operation.reply or {}).get("opens")
    if opens:
        return state.opens == milliseconds(opens) and earliest < milliseconds(opens)
    if state.opens is not None and state.opens > latest:
        return False
    return state.paused or (state.closes is not None and state.closes <= latest)


def is_over_limit(operation: Operation, state: State, owned: int, quantity: int) -> bool:
    """Whether the refusal ``buyer_limit`` is true, and tells how many tickets are left for the buyer."""
    if state.per_buyer is None:
        return False
    left = max(0, state.per_buyer - owned)
    return left < quantity and (operation.reply or {}).get("left") == left
