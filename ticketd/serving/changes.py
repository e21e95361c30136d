"""Owns the changed events, in the order of their last changes. A follower of all of them remembers only one number."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

# This many outdated entries are always tolerated.
OUTDATED_MAX = 1_000


class Changes:
    """The events that have changed, each by the number of its last change. Numbers grow, and ``last`` is the latest."""

    def __init__(self) -> None:
        self.last = 0
        self._numbers_by_event: dict[str, int] = {}
        # In order. If an event has changed again, or is removed, its earlier entry is outdated.
        self._numbers: list[int] = []
        self._events: list[str] = []

    def add(self, events: Iterable[str]) -> None:
        """Record that events have changed now."""
        for event in events:
            self.last += 1
            self._numbers_by_event[event] = self.last
            self._numbers.append(self.last)
            self._events.append(event)
        if len(self._events) > 2 * len(self._numbers_by_event) + OUTDATED_MAX:
            current = list(self.since(0))
            self._numbers = [number for number, _ in current]
            self._events = [event for _, event in current]

    def remove(self, events: Iterable[str]) -> None:
        """Forget that events have changed."""
        for event in events:
            self._numbers_by_event.pop(event, None)

    def number_of(self, event: str) -> int:
        """Return the number of the event's last change, or 0."""
        return self._numbers_by_event.get(event, 0)

    def since(self, number: int) -> Iterator[tuple[int, str]]:
        """Yield the number and the event of each last change after this number, in order."""
        for index in range(bisect_right(self._numbers, number), len(self._numbers)):
            number, event = self._numbers[index], self._events[index]
            if self._numbers_by_event.get(event) == number:
                yield number, event
