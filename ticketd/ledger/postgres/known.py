"""Owns what a daemon knows of a ledger in PostgreSQL without asking: events as it last saw them, and its own holds.

Other daemons may have changed any of it since. Whatever is decided on it is checked in the database.
"""

from collections import Counter
from collections.abc import Iterable
from copy import copy

from ticketd.ids import new_ticket
from ticketd.ledger.base import Answers
from ticketd.model import Booking, Event
from ticketd.rules.working_set import ReadSet, WorkingSet

HOLDS_MAX = 50_000


class Known:
    """The events by id, and the last HOLDS_MAX holds of this daemon, as long as it has not ended them itself."""

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}
        self._holds: dict[str, Booking] = {}

    def held(self, booking: str) -> tuple[str, int] | None:
        """Return the event and the quantity of a hold, or None if it is not known."""
        held = self._holds.get(booking)
        return (held.event, held.quantity) if held else None

    def working_set(self, reads: ReadSet, now: int) -> WorkingSet | None:
        """Return what a batch reads, or None if not all of it is known. ``now`` is in milliseconds since 1970.

        Nothing is known of those who wait in line. How many tickets a buyer has is not known: it seems to be none.
        """
        if reads.removals:
            return None
        working_set = WorkingSet(new_ticket, now)
        held: Counter[str] = Counter()
        for id in reads.bookings:
            if id not in self._holds:
                return None
            working_set.bookings[id] = hold = copy(self._holds[id])
            held[hold.event] += hold.quantity
        events = {id: copy(self.events[id]) for id in reads.events | held.keys() if id in self.events}
        if any(id not in events or events[id].held < quantity for id, quantity in held.items()):
            # Others have ended these holds.
            return None
        if any(event.waiting for event in events.values()):
            return None
        working_set.events = events
        return working_set

    def remember(self, answers: Answers, bookings: Iterable[Booking]) -> Answers:
        """Remember the events of a batch, and its new and changed bookings if they are held. Returns the answers."""
        for event_id in answers.removed:
            self.events.pop(event_id, None)
        for event in answers.events:
            # Another commit may have seen a later state meanwhile.
            if event.id not in self.events or event.version >= self.events[event.id].version:
                self.events[event.id] = event
        for booking in bookings:
            self._holds.pop(booking.id, None)
            if booking.state == "held":
                self._holds[booking.id] = booking
        while len(self._holds) > HOLDS_MAX:
            del self._holds[next(iter(self._holds))]
        return answers
