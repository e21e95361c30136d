"""Who gets what is available, in plain dictionaries: a line is a list, which is searched from its front each time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from tests.ledger.door import Door
from tests.ledger.facts import Row
from ticketd.model import milliseconds
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.requests import Amend


class WaitingList(Door):
    """Offers what is available to those who wait."""

    def __init__(self) -> None:
        super().__init__()
        # The events that the last batch changed.
        self.changed: set[str] = set()

    def turn(self, *ids: str, state: str, **change: Any) -> None:
        """Bring bookings of one event into a state, which is one change of it."""
        event = self.bookings[ids[0]]["event"]
        for id_ in ids:
            self.bookings[id_]["state"] = state
        self.events[event]["version"] += 1
        self.changed.add(event)
        left = self.left(event)
        for id_ in ids:
            row = self.bookings[id_]
            row |= left
            if change:
                row["past"].append(self.named(change | left))
            else:
                row["made"] |= left

    def is_on_sale(self, event: str, now: datetime) -> bool:
        terms = self.events[event]["terms"]
        opens, closes = terms["opens"] or now, terms["closes"] or now + timedelta(1)
        return not terms["paused"] and opens <= now < closes

    def serve(self, now: datetime) -> None:
        """Offer what is available of each event to the first in its line whom it is enough for, and so on."""
        self.actor = None
        for event in self.events:
            while first := self.first_in_line(event, now):
                if self.has_too_many(first):
                    self.turn(first["id"], state="released", what="leave", at=now)
                    continue
                expires = now + timedelta(seconds=first["made"]["seconds"])
                first |= {"expires": expires, "held_since": now}
                self.turn(first["id"], state="held", what="offer", at=now, expires=expires)

    def has_too_many(self, row: Row) -> bool:
        """Whether a booking waits that could not join any more, since the limit was lowered."""
        limit, buyer = self.events[row["event"]]["terms"]["per_buyer"], row["buyer"]
        return limit is not None and (buyer is None or self.owned(row["event"], buyer) > limit)

    def may_end_early(self, batch: Sequence[LedgerRequest]) -> bool:
        """Whether a batch may not serve a line to its end: it has not read who comes after those that have too many."""
        lines = [row for event in self.events for row in self.line(event)]
        return any(map(self.has_too_many, lines)) or any(isinstance(each, Amend) and each.per_buyer for each in batch)

    def first_in_line(self, event: str, now: datetime) -> Row | None:
        """Return whose turn it is, if it is somebody's."""
        if not self.is_on_sale(event, now):
            return None
        available = self.left(event)["available"]
        return next((row for row in self.line(event) if row["quantity"] <= available), None)

    def joined(self, id_: str) -> Row:
        """Return the reply to somebody who has just joined the line, or got tickets at once."""
        self.said["make", id_] = self.booking(id_)
        return self.booking(id_) | self.position(id_)

    def next_turn(self, now: datetime) -> int | None:
        """Return when the next sale opens for which somebody waits, whom what is available is enough for."""
        openings = [
            milliseconds(opens)
            for event, row in self.events.items()
            if (opens := row["terms"]["opens"]) and opens > now and self.first_in_line(event, opens)
        ]
        return min(openings, default=None)
