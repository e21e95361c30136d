"""Owns the places of served connections: who gets one, who waits for one, and who is refused.

An address may have only a share of the places, so that one client cannot take them all. Loopback is exempt, since all
clients may come through a proxy on this machine. Some places are reserved for it, so that the operator can connect
however many others do.
"""

import asyncio
from collections import Counter

from ticketd.config import RETRY_AFTER_SECONDS, Limits
from ticketd.errors import TicketError
from ticketd.serving.accepting import LOCAL, owner


class Places:
    """The places, at most ``connections_max``. Whoever must wait for one is served in the order of arrival."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Loopback takes these when the others are taken. At least half of all are for everybody.
        reserved = min(limits.loopback_places, limits.connections_max // 2)
        self._reserved = asyncio.Semaphore(reserved)
        self._unreserved = asyncio.Semaphore(limits.connections_max - reserved)
        # How many connections are served or wait, by what ``owner`` returns for their address.
        self._by_owner: Counter[str] = Counter()
        self._waiting: set[asyncio.Task[None]] = set()
        # Why all who wait are refused, once they are.
        self._refusal: TicketError | None = None

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    async def take(self, address: str) -> asyncio.Semaphore:
        """Take a place, if necessary after waiting for one. Raises TicketError (too_many_connections).

        Return the semaphore that it was acquired from, for ``release``. During the wait at most READ_BYTES and one read
        of the transport are buffered.
        """
        if self._refusal:
            raise self._refusal
        mine, exempt = owner(address), address in LOCAL and self._limits.loopback_places > 0
        if not exempt and self._by_owner[mine] >= self._limits.connections_per_address_max:
            most = self._limits.connections_per_address_max
            raise _refusal(
                f"your address has {most} connections, the most that one address may have; close some, or reuse them"
            )
        places = self._unreserved
        if exempt and places.locked() and not self._reserved.locked():
            places = self._reserved
        self._by_owner[mine] += 1
        try:
            await self._acquire(places)
        except BaseException:
            self._leave(mine)
            raise
        return places

    def release(self, address: str, places: asyncio.Semaphore) -> None:
        """Give a place back."""
        places.release()
        self._leave(owner(address))

    def refuse_all(self, error: TicketError) -> None:
        """Let ``take`` raise the error from now on, for those who wait too."""
        self._refusal = error
        for task in self._waiting:
            task.cancel()

    async def _acquire(self, places: asyncio.Semaphore) -> None:
        if not places.locked():
            await places.acquire()
            return
        if self.waiting >= self._limits.connections_waiting_max:
            raise _refusal("too many connections, and too many waiting; try again later")
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            async with asyncio.timeout(self._limits.connections_waiting_seconds_max):
                await places.acquire()
        except TimeoutError:
            seconds = self._limits.connections_waiting_seconds_max
            raise _refusal(f"too many connections; waited {seconds:g} s for a place, try again later") from None
        except asyncio.CancelledError:
            if self._refusal is None:
                raise
            task.uncancel()
            raise self._refusal from None
        finally:
            self._waiting.discard(task)

    def _leave(self, theirs: str) -> None:
        self._by_owner[theirs] -= 1
        if not self._by_owner[theirs]:
            del self._by_owner[theirs]


def _refusal(message: str) -> TicketError:
    return TicketError("too_many_connections", message, retry_after=RETRY_AFTER_SECONDS, unasked=True)
