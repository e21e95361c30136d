"""When each operation of a history can have been decided, in the lives of events and tickets. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import inf

from tests.faults.history import Life, Operation, Ticket, contradiction
from tests.faults.order import Change as Primary
from tests.faults.order import Claim, check_order


class Claims:
    """What operations claim about the moments of events and tickets."""

    def __init__(self, history: Sequence[Operation], lives: Mapping[str, Life], tickets: Mapping[str, Ticket]) -> None:
        self.history = history
        self.lives = lives
        self.tickets = tickets
        self._by_subject: dict[tuple[str, str], dict[Operation, Claim]] = defaultdict(dict)

    def claim(self, what: str, id: str, operation: Operation, first: float, last: float) -> None:
        """Note what an operation claims about the versions of an event, or the states of a ticket."""
        claims = self._by_subject[what, id]
        if operation in claims:
            _, first_before, last_before = claims[operation]
            first, last = max(first, first_before), min(last, last_before)
        if first > last:
            raise contradiction(f"{what} {id} was at no moment as this shows it", operation)
        claims[operation] = Claim(operation, first, last)

    def claim_absent(self, operation: Operation, id: str) -> None:
        """Note that a booking or a ticket did not exist."""
        ticket = self.tickets.get(id)
        life = self.lives.get(ticket.booking if ticket else id)
        if life:
            born = ticket.born if ticket else life.changes[0]
            self.claim("event", life.event, operation, -inf, 2 * born.version - 1)

    def check_order(self, daemons: Mapping[int, float], changes: Sequence[Primary]) -> None:
        """Raise AssertionError unless real time and the order of connections agree."""
        places = {operation: place for place, operation in enumerate(self.history)}
        for of_subject in self._by_subject.values():
            check_order(sorted(of_subject.values(), key=lambda claim: places[claim.operation]), daemons, changes)


def one(what: str, fresh: Sequence[Operation], lost: Sequence[Operation], shown: Sequence[Operation]) -> Operation:
    """Return who did it: whose reply says so; or else the first whose outcome is unknown."""
    if len(fresh) > 1:
        raise contradiction(f"{what} was done twice", *fresh)
    if not fresh and not lost:
        raise contradiction(f"{what} was done, and nobody can have done it", *shown)
    return fresh[0] if fresh else min(lost, key=lambda operation: operation.invoked)
