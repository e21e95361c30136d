"""The waiting list of one event, as far as a batch needs it. Pure."""

import math
from collections import deque
from collections.abc import Iterable
from operator import attrgetter

from ticketd.model import Booking

# So many tickets of one event are offered in one batch at most; it bounds how much of a line is read.
OFFERED_PER_BATCH_MAX = 1_000

_VERSION = attrgetter("version")


class Line:
    """The bookings that wait for tickets of one event, in the order in which they joined: by their ``version``.

    It need not be whole: the first ``room // quantity`` bookings of each quantity are enough, since a batch that starts
    with it offers ``room`` tickets at most.
    """

    def __init__(self, waiting: Iterable[Booking] = (), room: float = math.inf) -> None:
        self.room = room
        self._by_quantity: dict[int, deque[Booking]] = {}
        for booking in sorted(waiting, key=_VERSION):
            self.add(booking)

    def add(self, booking: Booking) -> None:
        """Add a booking at the end."""
        self._by_quantity.setdefault(booking.quantity, deque()).append(booking)

    def first(self, tickets: int) -> Booking | None:
        """Return the first booking that waits for so many tickets or fewer."""
        heads = [head for quantity in self._by_quantity if quantity <= tickets and (head := self._head(quantity))]
        return min(heads, key=_VERSION, default=None)

    def _head(self, quantity: int) -> Booking | None:
        queue = self._by_quantity[quantity]
        # Those that are no longer waiting have got their tickets, or left.
        while queue and queue[0].state != "waiting":
            queue.popleft()
        return queue[0] if queue else None
