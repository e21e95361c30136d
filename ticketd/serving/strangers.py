"""Owns the places of strangers: of connections that have not said who they are, or have not begun TLS.

They are few. Whoever comes when all are taken gets one, and the oldest stranger of the address with the most of them
has to go: so those who say nothing keep nobody out who speaks at once. So it is with those who may do something without
saying who they are, but these may be more.
"""

from collections.abc import Callable

from ticketd.config import RETRY_AFTER_SECONDS
from ticketd.errors import TicketError

# How long somebody may stay who has not said who they are, from the moment when they were accepted.
STRANGER_SECONDS_MAX = 10.0
TOO_MANY_STRANGERS = TicketError(
    "too_many_connections",
    "too many connections have not said who they are; try again, and send auth at once",
    retry_after=RETRY_AFTER_SECONDS,
    unasked=True,
)
TOO_MANY_ANONYMOUS = TicketError(
    "too_many_connections",
    "too many connections have not said who they are; try again, or get a token and send auth at once",
    retry_after=RETRY_AFTER_SECONDS,
    unasked=True,
)


class Strangers:
    """At most ``most`` strangers at once, and at least one. ``refusal`` is what the others are told."""

    def __init__(self, most: int, refusal: TicketError = TOO_MANY_STRANGERS) -> None:
        self.refusal = refusal
        self._most = max(1, most)
        self._owners: dict[object, str] = {}
        # By what counts as one address: how to end each, the oldest first.
        self._ends: dict[str, dict[object, Callable[[], object]]] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, stranger: object, owner: str, end: Callable[[], object]) -> None:
        """Add a stranger, whom ``end`` ends. If there are too many, another one is ended."""
        if len(self) >= self._most:
            self.end_one()
        self._owners[stranger] = owner
        self._ends.setdefault(owner, {})[stranger] = end

    def discard(self, stranger: object) -> None:
        """Forget a stranger who has become known, or is gone already."""
        owner = self._owners.pop(stranger, None)
        if owner is not None:
            del self._ends[owner][stranger]
            if not self._ends[owner]:
                del self._ends[owner]

    def end_one(self) -> bool:
        """End the one who has to go first. Return False if there is none."""
        if not self._ends:
            return False
        stranger, end = next(iter(max(self._ends.values(), key=len).items()))
        self.discard(stranger)
        end()
        return True

    def end_all(self) -> None:
        """End all of them."""
        while self.end_one():
            pass
