"""Ends holds that have run out. Owns when that is due, and how long requests wait for it.

The ledger ends due holds before it decides any batch, so a submission without requests is enough.
"""

import asyncio
import math
from collections.abc import Callable, Sequence

from ticketd.commits.clients import Client, InternalClient
from ticketd.commits.health import Health
from ticketd.commits.queues import Submission
from ticketd.ledger.base import Ledger
from ticketd.wire.replies import Reply

# A request that shows events waits this long for due holds to end: a commit may hang.
WAIT_SECONDS_MAX = 0.04
# How often to look again while a hold is due.
DUE_CHECK_SECONDS = 0.01
QUEUE = "/expiry"  # No event has such an id.


class Expiry:
    """The due holds of a ledger. ``enqueue`` queues a submission for a commit."""

    def __init__(self, ledger: Ledger, health: Health, enqueue: Callable[[Submission], None]) -> None:
        self._ledger = ledger
        self._health = health
        self._enqueue = enqueue
        self._loop = asyncio.get_running_loop()

    def is_due(self) -> bool:
        """Whether holds may have run out but still count as held, and a commit could end them now."""
        return self._left() <= 0 and self._health.can_end_holds(self._loop.time())

    def seconds_to_next(self) -> float:
        """Return after how long to look for due holds again."""
        left = self._left()
        return left if left > 0 else DUE_CHECK_SECONDS

    def end_for(self, client: Client) -> None:
        """End all due holds, then deliver an empty list of replies, after WAIT_SECONDS_MAX at the latest."""
        waiting = _FirstDelivery(client)
        self._submit(waiting)
        self._loop.call_later(WAIT_SECONDS_MAX, self._stop_waiting, waiting)

    async def end(self) -> None:
        """Return when all due holds have ended."""
        client = InternalClient("expiry")
        self._submit(client)
        await client.replies

    def _left(self) -> float:
        """Return how many seconds are left until the next holds run out."""
        expiry = self._ledger.next_expiry
        return math.inf if expiry is None else (expiry - self._ledger.now()) / 1e3

    def _submit(self, client: Client) -> None:
        self._enqueue(Submission(client, (), QUEUE, self._loop.time(), 0))

    def _stop_waiting(self, waiting: "_FirstDelivery") -> None:
        if not waiting.delivered:
            self._health.commit_hangs = True
            waiting.deliver(())


class _FirstDelivery:
    """Passes only the first delivery on to its client: the replies, or those of a timeout."""

    def __init__(self, client: Client) -> None:
        self.peer, self.actor = client.peer, client.actor
        self.delivered = False
        self._client = client

    def deliver(self, replies: Sequence[Reply]) -> None:
        """Pass the replies on, unless the client has got some already."""
        if not self.delivered:
            self.delivered = True
            self._client.deliver(replies)
