"""Owns who is on a connection: nobody known at first, perhaps, and then whoever their token says."""

import math
from collections.abc import Callable
from functools import partial

from ticketd.errors import TicketError
from ticketd.serving.accepting import Accepted
from ticketd.serving.service import Service
from ticketd.serving.strangers import STRANGER_SECONDS_MAX, TOO_MANY_STRANGERS


class Identity:
    """Who is on one connection. ``on_name`` is called with their name when it is another one, or None."""

    def __init__(self, accepted: Accepted, service: Service, on_name: Callable[[str | None], None]) -> None:
        # None if everybody may do everything.
        self.gate = service.gate(accepted, self._on_known)
        self._owner, self._since = accepted.owner, accepted.since
        self._strangers = service.strangers
        self._on_name = on_name
        # By when a stranger must have said who they are, in seconds of the loop's clock.
        self.known_by = math.inf
        self._tell_name()

    def enter(self, turn_out: Callable[[TicketError], None]) -> None:
        """Begin to be served. A stranger has to say who they are soon; ``turn_out`` ends whoever must go before."""
        # The access list may have been replaced while they waited for a place.
        self.refresh()
        if self.gate and self.gate.is_stranger:
            self._strangers.add(self, self._owner, partial(turn_out, TOO_MANY_STRANGERS))
            self.known_by = self._since + STRANGER_SECONDS_MAX

    def why_overdue(self, now: float) -> str | None:
        """Return what to tell a stranger whose time is over, or None. ``now`` is of the loop's clock."""
        if now < self.known_by:
            return None
        return f"say who you are within {STRANGER_SECONDS_MAX:g} s, with auth and a token"

    def leave(self) -> None:
        """Give back the place of a stranger."""
        self._strangers.discard(self)

    def refresh(self) -> bool:
        """Take what a new access list says of them. Return False if they had a role, and have none any more."""
        may_stay = self.gate is None or self.gate.refresh()
        self._tell_name()
        return may_stay

    def _on_known(self) -> None:
        self.known_by = math.inf
        self.leave()
        self._tell_name()

    def _tell_name(self) -> None:
        self._on_name(self.gate.who.name if self.gate else None)
