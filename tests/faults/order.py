"""Proves that the claims about an event or a ticket are in order: of real time, and of connections.

Daemons that share a ledger show events as each of them knows them, and others may have changed these meanwhile. But no
daemon shows what was before its own commits, before what it has shown, or before it began; and no connection is shown
what was before anything that it was shown.

While the primary of their database changes, a daemon that does not know it yet answers what needs no commit as the old
primary has it: as it was at some moment before.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

from tests.faults.history import DOOR, Operation, contradiction


class Claim(NamedTuple):
    """An operation was decided at no moment before the first one, and at none after the last one."""

    operation: Operation
    first: float
    last: float

    @property
    def is_of_the_past(self) -> "Claim":
        """What remains of it if what it shows may have been changed by then."""
        return self._replace(last=inf)


# When it began, and when it was over, by the monotonic clock.
Change = tuple[float, float]


def check_order(claims: Sequence[Claim], daemons: Mapping[int, float], changes: Sequence[Change] = ()) -> None:
    """Raise AssertionError unless this is in order. ``claims`` are about one event or ticket, in order.

    ``daemons`` are the ports of those that share a ledger, and when each of them began; ``changes`` are those of their
    primary.
    """
    _check_real_time(
        [
            claim.is_of_the_past if daemons and may_be_of_the_past(claim.operation, changes) else claim
            for claim in claims
        ]
    )
    for port, began in daemons.items():
        _check_real_time(list(_known_by(port, began, claims)))
    _check_connections(claims)


def may_be_of_the_past(operation: Operation, changes: Sequence[Change]) -> bool:
    """Whether what an operation tells may have been changed by then, by other daemons or on a newer primary."""
    asked_meanwhile = any(operation.invoked < over and operation.answered > began for began, over in changes)
    return is_as_known(operation) or (asked_meanwhile and not operation.changed)


def is_as_known(operation: Operation) -> bool:
    """Whether this tells events as the daemon knows them."""
    reply = operation.reply or {}
    return operation.cmd in ("list", "show", "watch") and reply.get("reply") in ("events", "event")


def _known_by(port: int, began: float, claims: Sequence[Claim]) -> Iterator[Claim]:
    """What a daemon found when it began, what it has changed, and what it tells of events."""
    for claim in claims:
        operation = claim.operation
        has_changed = operation.changed and operation.cmd not in DOOR
        if operation.port == port and (has_changed or is_as_known(operation)):
            yield claim
        elif operation.answered < began:
            yield claim.is_of_the_past


def _check_real_time(claims: Sequence[Claim]) -> None:
    """What was invoked after another was answered was not decided before it."""
    answered = sorted(claims, key=lambda claim: claim.operation.answered)
    latest = None
    place = 0
    for claim in sorted(claims, key=lambda claim: claim.operation.invoked):
        while answered[place].operation.answered < claim.operation.invoked:
            if latest is None or answered[place].first > latest.first:
                latest = answered[place]
            place += 1
        if latest and latest.first > claim.last:
            raise contradiction("real time: the second was decided before the first", latest.operation, claim.operation)


def _check_connections(claims: Sequence[Claim]) -> None:
    """The requests of a connection were decided in the order sent."""
    latest: dict[int, Claim] = {}
    for claim in claims:
        if claim.operation.answered < inf:
            before = latest.setdefault(claim.operation.connection, claim)
            if before.first > claim.last:
                raise contradiction("the order sent: the second was decided first", before.operation, claim.operation)
            latest[claim.operation.connection] = max(before, claim, key=lambda claim: claim.first)
