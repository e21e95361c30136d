"""The waiting list of one event, as far as a batch needs it. Pure."""

import math
from collections import deque
from collections.abc import Iterable
from operator import attrgetter

from ticketd.model import Booking

# The most tickets of one event that a batch offers. Of all events together, it offers less than twice as many. No
# booking has more tickets.
OFFERED_PER_BATCH_MAX = 1_000

_VERSION = attrgetter("version")


class WaitingList:
    """The bookings that wait for tickets of one event, in the order in which they joined: by their ``version``.

    It need not be complete. A batch offers at most ``budget`` tickets, so of each quantity, only the first
    ``budget // quantity`` bookings are read. More may wait behind them: see ``may_be_unread``. ``unread`` is the lowest
    quantity above ``budget`` for which a booking waits.
    """

    def __init__(self, waiting: Iterable[Booking] = (), budget: float = math.inf, unread: float = math.inf) -> None:
        self.budget = budget
        self._unread = unread
        self._by_quantity: dict[int, deque[Booking]] = {}
        for booking in sorted(waiting, key=_VERSION):
            self._by_quantity.setdefault(booking.quantity, deque()).append(booking)
        # The quantities of which some bookings may not have been read.
        self._cut = {quantity for quantity, queue in self._by_quantity.items() if (len(queue) + 1) * quantity > budget}

    def add(self, booking: Booking) -> None:
        """Add a booking at the end."""
        # If it stands behind bookings that were not read, its turn does not come in this batch.
        if booking.quantity not in self._cut:
            self._by_quantity.setdefault(booking.quantity, deque()).append(booking)

    def may_be_unread(self, tickets: int) -> bool:
        """Whether the first booking that waits for at most this many tickets may be one that was not read."""
        return tickets >= self._unread or any(
            quantity <= tickets and self._head(quantity) is None for quantity in self._cut
        )

    def first(self, tickets: int) -> Booking | None:
        """Return the first booking that was read and waits for at most this many tickets."""
        heads = [head for quantity in self._by_quantity if quantity <= tickets and (head := self._head(quantity))]
        return min(heads, key=_VERSION, default=None)

    def _head(self, quantity: int) -> Booking | None:
        queue = self._by_quantity[quantity]
        # Those that are no longer waiting have got their tickets, or left.
        while queue and queue[0].state != "waiting":
            queue.popleft()
        return queue[0] if queue else None
