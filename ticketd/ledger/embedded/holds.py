"""Owns the active holds in memory, in a heap by expiry: which are due, and when the next one will be."""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from ticketd.model import Booking

# So many entries that are no longer active are left in the heap, besides four for each hold.
LEFT_MAX = 10_000


class Holds:
    """The committed bookings that are held. Times are in milliseconds since 1970."""

    def __init__(self, bookings: Iterable[tuple[str, str, int, int]]) -> None:
        """Start from committed holds, each with id, event, quantity and expiry."""
        self._active = {id: (event, quantity, expires) for id, event, quantity, expires in bookings}
        # By time. Ended holds stay in the heap until they come to its top, or there are too many of them: a hold may be
        # confirmed at once and yet have a day to run.
        self._heap = [(expires, id) for id, (_, _, expires) in self._active.items()]
        heapify(self._heap)
        # What ``take_due`` took out of the heap, until its commit ends.
        self._due: list[tuple[int, str]] = []

    @property
    def next_expiry(self) -> int | None:
        """When the first hold runs out or ran out; None if there are none."""
        if self._due:
            return self._due[0][0]
        heap = self._heap
        while heap and not self._is_active(heap[0]):
            heappop(heap)
        return heap[0][0] if heap else None

    def after(self, time: int) -> list[int]:
        """Return the times, later than ``time``, at which holds run out."""
        return [expires for _, _, expires in self._active.values() if expires > time]

    def held(self, booking: str) -> tuple[str, int] | None:
        """Return the event and the quantity of a booking that is held, else None."""
        held = self._active.get(booking)
        return held and held[:2]

    def take_due(self, now: int) -> dict[str, int]:
        """Take the holds that have run out by ``now``, for a commit to end, and return their tickets per event.

        Follow with ``apply`` or ``put_back_due``; another ``take_due`` puts them back first.
        """
        self.put_back_due()
        due: dict[str, int] = {}
        while self._heap and self._heap[0][0] <= now:
            entry = heappop(self._heap)
            if self._is_active(entry):
                self._due.append(entry)
                event, quantity, _ = self._active[entry[1]]
                due[event] = due.get(event, 0) + quantity
        return due

    def put_back_due(self) -> None:
        """Put back what was taken, since its commit failed. If the clock is set back, it is not due any more."""
        for entry in self._due:
            heappush(self._heap, entry)
        self._due.clear()

    def apply(self, bookings: Iterable[Booking], *, expired: bool) -> None:
        """Take over the bookings that a commit changed. ``expired`` says that it ended the holds that were taken."""
        if expired:
            for _, id in self._due:
                self._active.pop(id, None)
            self._due.clear()
        for booking in bookings:
            if booking.state == "held" and booking.expires is not None:
                self._active[booking.id] = (booking.event, booking.quantity, booking.expires)
                heappush(self._heap, (booking.expires, booking.id))
            elif booking.seconds is not None:
                self._active.pop(booking.id, None)
        if len(self._heap) > 4 * len(self._active) + LEFT_MAX:
            self._heap = list(filter(self._is_active, self._heap))
            heapify(self._heap)

    def _is_active(self, entry: tuple[int, str]) -> bool:
        expires, id = entry
        held = self._active.get(id)
        return held is not None and held[2] == expires
