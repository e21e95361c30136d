"""Owns who is on a connection: nobody known at first, perhaps, and then whoever their token says."""

import math
from collections.abc import Callable
from functools import partial

from ticketd.errors import TicketError
from ticketd.serving.accepting import Accepted
from ticketd.serving.service import Service
from ticketd.serving.strangers import STRANGER_SECONDS_MAX, Strangers


class Identity:
    """Who is on one connection. ``on_name`` is called with their name when it is another one, or None."""

    def __init__(self, accepted: Accepted, service: Service, on_name: Callable[[str | None], None]) -> None:
        # None if everybody may do everything.
        self.gate = service.gate(accepted, self._follow_gate)
        self._owner, self._since = accepted.owner, accepted.since
        self._service = service
        self._on_name = on_name
        self._turn_out: Callable[[TicketError], None] | None = None
        # Among whom they count, if they have not said who they are.
        self._strangers: Strangers | None = None
        # By when a stranger must have said who they are, in seconds of the loop's clock.
        self.known_by = math.inf
        self._tell_name()

    def enter(self, turn_out: Callable[[TicketError], None]) -> None:
        """Begin to be served. A stranger has to say who they are soon; ``turn_out`` ends whoever must go before."""
        self._turn_out = turn_out
        # The access list may have been replaced while they waited for a place.
        self.refresh()

    def why_overdue(self, now: float) -> str | None:
        """Return what to tell a stranger whose time is over, or None. ``now`` is of the loop's clock."""
        if now < self.known_by:
            return None
        return f"say who you are within {STRANGER_SECONDS_MAX:g} s, with auth and a token"

    def leave(self) -> None:
        """Give back the place of a stranger, and drop what would keep the connection alive."""
        self._turn_out, self._on_name = None, _ignore
        self._follow_gate()
        self.gate = None

    def refresh(self) -> bool:
        """Take what a new access list says of them. Return False if they had a role, and have none any more."""
        may_stay = self.gate is None or self.gate.refresh()
        self._follow_gate()
        return may_stay

    def _follow_gate(self) -> None:
        """Take over who they are, and whether that is a stranger."""
        self._tell_name()
        # Whoever has not entered, or has left, counts nowhere.
        strangers = self._service.strangers_with(self.gate) if self._turn_out else None
        if strangers is self._strangers:
            return
        if self._strangers is not None:
            self._strangers.discard(self)
        self._strangers = strangers
        if self._turn_out and strangers is not None:
            strangers.add(self, self._owner, partial(self._turn_out, strangers.refusal))
        must_speak = strangers is self._service.strangers
        self.known_by = self._since + STRANGER_SECONDS_MAX if must_speak else math.inf

    def _tell_name(self) -> None:
        self._on_name(self.gate.who.name if self.gate else None)


def _ignore(_name: str | None) -> None: ...
