"""A true history of a crowd, to be made false by drawing from it what is fit for that."""

import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tests.faults.history import Operation, Row

LATER = 1e12
# What the checker says of most that contradicts.
LOST = "second was decided before the first"
_TICKET = re.compile(r".+\.[0-9a-f]{12}")


class Recorded:
    """A true history, to be made false by drawing from it what is fit for that."""

    def __init__(self, history: list[Operation], events: list[Row], chance: random.Random) -> None:
        self.history = history
        self.events = events
        self.chance = chance

    # ``fits`` takes Any: what is drawn has a reply, but the type of its field allows None.
    def all(self, fits: Callable[[Any], object]) -> list[Any]:
        """Return all operations that were answered, and are fit."""
        fit = [operation for operation in self.history if operation.reply and fits(operation)]
        assert fit, "the crowd was too quiet"
        return fit

    def answered(self, fits: Callable[[Any], object]) -> Any:
        """Draw an operation that was answered."""
        return self.chance.choice(self.all(fits))

    def lists(self) -> list[Any]:
        """Return all whose replies show the events."""
        return self.all(lambda operation: operation.reply["reply"] == "events")

    def changed(self, cmd: str) -> Any:
        """Draw an operation that changed something."""
        return self.answered(lambda operation: operation.cmd == cmd and operation.changed)

    def booked(self, fits: Callable[[Any], object] = bool) -> Any:
        """Draw one that booked what nobody has cancelled or reissued."""
        touched = {operation.request.get("booking") for operation in self.history if operation.cmd == "cancel"}
        touched |= {of.request["ticket"].rpartition(".")[0] for of in self.history if of.cmd == "reissue"}
        return self.answered(lambda of: of.cmd == "book" and of.changed and of.reply["id"] not in touched and fits(of))

    def repeated(self) -> Any:
        """Draw a replay of a booking whose first reply is known too."""
        first = {operation.reply["id"] for operation in self.all(lambda of: of.cmd == "book" and of.changed)}
        return self.answered(
            lambda operation: operation.replayed and operation.cmd == "book" and operation.reply["id"] in first
        )

    def refused(self, code: str, cmd: str) -> Any:
        """Draw an operation that was refused."""
        return self.answered(lambda operation: (operation.code, operation.cmd) == (code, cmd))

    def redeemed(self, fits: Callable[[Any], object] = bool) -> Any:
        """Draw one that redeemed a single ticket whose redemption nobody has annulled."""
        annulled = self.annulled()
        return self.answered(
            lambda of: (
                of.cmd == "redeem"
                and of.changed
                and of.reply["reply"] == "ticket"
                and of.reply["id"] not in annulled
                and fits(of)
            )
        )

    def refused_at_the_door(self, code: str) -> Any:
        """Draw one that did not redeem a single ticket."""
        return self.answered(
            lambda of: (of.code, of.cmd) == (code, "redeem") and _TICKET.fullmatch(of.request["ticket"])
        )

    def annulled(self) -> set[str]:
        """Return the tickets that somebody wanted to annul the redemption of."""
        return {of.request["ticket"] for of in self.history if of.cmd == "annul"}

    def booking_of(self, ticket: str) -> Row:
        """Return the booking of a ticket, as it was at some moment."""
        return next(self.shown(ticket.rpartition(".")[0]))

    def pages(self) -> list[Any]:
        """Return all pages of bookings, the last ones at the end."""
        return self.all(lambda operation: operation.cmd == "bookings" and operation.code is None)

    def of_pages(self, fits: Callable[[Row], object]) -> tuple[Any, Row]:
        """Draw a page and a booking in it that is fit."""
        found = [(page, facts) for page in self.pages() for facts in page.reply["bookings"] if fits(facts)]
        assert found, "the crowd was too quiet"
        return self.chance.choice(found)

    def show(self) -> Any:
        """Draw one that shows an event some of whose tickets are available, and some sold."""
        return self.answered(
            lambda operation: (
                operation.cmd == "show" and operation.reply.get("available") and operation.reply.get("sold")
            )
        )

    def shown(self, booking: str) -> Iterator[Row]:
        """All that replies show of a booking."""
        for operation in self.history:
            reply = operation.reply or {}
            yield from (facts for facts in (reply, *reply.get("bookings", ())) if facts.get("id") == booking)

    def later(self, request: Row, reply: Row) -> None:
        """Add one who asks when all is over."""
        self.history.append(Operation("late", 0, -1, request, LATER, LATER, reply))

    def rewrite(self, old: str, new: str) -> None:
        """Let every reply tell something else."""
        for operation in self.history:
            reply = msgspec.json.encode(operation.reply)
            if old.encode() in reply:
                operation.reply = msgspec.json.decode(reply.replace(old.encode(), new.encode()))


Mutant = Callable[[Recorded], None]


def time_of(milliseconds: float) -> str:
    """Return a time in milliseconds since 1970 as replies tell it."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)).isoformat()
