"""Owns the waiting lists in memory: the positions in them, and when tickets can next be offered."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from itertools import islice

from ticketd.model import Booking, Event
from ticketd.rules.waiting import next_turn
from ticketd.rules.working_set import WorkingSet

# Besides the events that it names, a batch serves at most this many events with tickets to offer.
EVENTS_PER_BATCH_MAX = 100


class WaitingLists:
    """The lines of all events. Of each committed booking that waits, only its version is kept: 8 bytes."""

    def __init__(self, waiting: Iterable[tuple[str, int]], events: Iterable[Event]) -> None:
        """Start from committed bookings that wait, each with its event and version, in the order of versions."""
        self._versions: dict[str, array[int]] = {}
        for event, version in waiting:
            self._versions.setdefault(event, array("q")).append(version)
        # By event, in milliseconds since 1970. What was available before the start may not have been offered yet.
        self._turns = {event.id: event.opens or 0 for event in events if event.waiting and event.available}
        # When tickets can next be offered to those who wait; None if that takes a request. Often asked for.
        self.next_turn = min(self._turns.values(), default=None)

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._versions)

    def due(self, now: int) -> set[str]:
        """Return the first EVENTS_PER_BATCH_MAX events of which tickets can be offered by now."""
        return set(islice((event for event, turn in self._turns.items() if turn <= now), EVENTS_PER_BATCH_MAX))

    def show_positions(self, working_set: WorkingSet) -> None:
        """Add the positions of its waiting bookings to a working set."""
        for booking in working_set.bookings.values():
            if booking.state == "waiting":
                place = bisect_left(self._versions[booking.event], booking.version)
                working_set.positions[booking.id] = place + 1

    def apply(self, working_set: WorkingSet) -> None:
        """Take over the outcome of a batch, whether it was committed or had nothing to change."""
        for id in working_set.waiting_lists:
            event = working_set.events[id]
            # 0 means at once, even if the clock is set back.
            turn = 0 if id in working_set.unserved else next_turn(event, working_set.now)
            if turn is None:
                self._turns.pop(id, None)
            else:
                self._turns[id] = turn
        if working_set.waiting_lists:
            self.next_turn = min(self._turns.values(), default=None)
            for booking in working_set.changed_bookings.values():
                if booking.waited:
                    self._take(booking)

    def _take(self, booking: Booking) -> None:
        versions = self._versions.setdefault(booking.event, array("q"))
        place = bisect_left(versions, booking.version)
        known = place < len(versions) and versions[place] == booking.version
        if booking.state == "waiting":
            # At the end: what changes the line of an event takes its next versions.
            versions.insert(place, booking.version)
        elif known:
            del versions[place]
        if not versions:
            del self._versions[booking.event]
