"""The waiting list of one event, as far as a batch needs it. Pure."""

import math
from collections import deque
from collections.abc import Iterable
from operator import attrgetter

from ticketd.model import Booking

# So many tickets of one event are offered in one batch at most, and less than twice as many of all events together. No
# booking has more.
OFFERED_PER_BATCH_MAX = 1_000

_VERSION = attrgetter("version")


class WaitingList:
    """The bookings that wait for tickets of one event, in the order in which they joined: by their ``version``.

    It need not be whole. If a batch offers ``room`` tickets at most, the first ``room // quantity`` bookings of each
    quantity are read. More of them may wait behind these: see ``is_cut``. ``unread`` is the lowest quantity above
    ``room`` for which somebody waits.
    """

    def __init__(self, waiting: Iterable[Booking] = (), room: float = math.inf, unread: float = math.inf) -> None:
        self.room = room
        self._unread = unread
        self._by_quantity: dict[int, deque[Booking]] = {}
        for booking in sorted(waiting, key=_VERSION):
            self._by_quantity.setdefault(booking.quantity, deque()).append(booking)
        # The quantities of which not all bookings may have been read.
        self._cut = {quantity for quantity, queue in self._by_quantity.items() if (len(queue) + 1) * quantity > room}

    def add(self, booking: Booking) -> None:
        """Add a booking at the end."""
        # Behind others that were not read, it has no turn in this batch.
        if booking.quantity not in self._cut:
            self._by_quantity.setdefault(booking.quantity, deque()).append(booking)

    def is_cut(self, tickets: int) -> bool:
        """Whether nobody knows who is the first that waits for so many tickets or fewer: it may not have been read."""
        return tickets >= self._unread or any(
            quantity <= tickets and self._head(quantity) is None for quantity in self._cut
        )

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
