"""Proves that each ticket let one person in, again only after an annulment, and never after it was ended.

Redeeming changes no event, so each ticket has moments of its own: valid is 1, its redemption is 2, redeemed is 3, an
annulment is 4, and so on.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

from tests.faults.claims import Claims, one
from tests.faults.history import (
    DOOR,
    Operation,
    Row,
    bookings_in,
    contradiction,
    milliseconds,
    redemptions_shown,
    tickets_shown,
    valid_tickets,
)


class Entry(NamedTuple):
    """What happened to a ticket at the door."""

    what: str
    at: str
    reason: str | None = None


def told(facts: Row) -> list[Entry]:
    """Return what the reply about a ticket tells of its history, which is all of it until then."""
    if "history" in facts:
        entries = [Entry(entry["what"], entry["at"], entry.get("reason")) for entry in facts["history"]]
    else:
        entries = [Entry("redeem", facts["redeemed_at"])] if "redeemed_at" in facts else []
    redeemed_at = entries[-1].at if len(entries) % 2 else None
    turns = [("redeem", "annul")[place % 2] for place in range(len(entries))]
    is_redeemed = facts["state"] == "redeemed"
    if (
        [entry.what for entry in entries] != turns
        or facts.get("redeemed_at") != redeemed_at
        or (is_redeemed != (redeemed_at is not None))
    ):
        raise AssertionError(f"ticket {facts['id']} was not redeemed and annulled in turns: {facts}")
    return entries


def histories_of(history: Sequence[Operation]) -> dict[str, list[Entry]]:
    """All replies tell the same history of a ticket, some of them less of it than others. Return it."""
    longest: dict[str, tuple[list[Entry], Operation]] = {}
    for operation in history:
        for facts in tickets_shown(operation):
            entries = told(facts)
            known, other = longest.setdefault(facts["id"], (entries, operation))
            if entries[: len(known)] != known[: len(entries)]:
                raise contradiction(f"ticket {facts['id']} was redeemed at two times", other, operation)
            if len(entries) > len(known):
                longest[facts["id"]] = entries, operation
    for operation in history:
        for ticket, at in _times_shown(operation):
            known, other = longest.setdefault(ticket, ([], operation))
            if not known:
                longest[ticket] = [Entry("redeem", at)], operation
            elif at not in [entry.at for entry in known[::2]]:
                raise contradiction(f"ticket {ticket} was redeemed at two times", other, operation)
    return {ticket: entries for ticket, (entries, _) in longest.items()}


def _times_shown(operation: Operation) -> Iterator[tuple[str, str]]:
    for of_booking in redemptions_shown(operation).values():
        yield from of_booking.items()


class Door:
    """What was asked at the door, and what came of it."""

    def __init__(self, claims: Claims, slack: float) -> None:
        self._claims = claims
        self._slack = slack
        self.histories = histories_of(claims.history)
        self._asked: dict[tuple[str, str], list[Operation]] = defaultdict(list)
        self._scans: dict[tuple[str, str], list[Operation]] = defaultdict(list)
        for operation in claims.history:
            if operation.cmd in DOOR:
                ticket = operation.request["ticket"]
                self._asked[operation.cmd, ticket].append(operation)
                if "scan" in operation.request and operation.changed:
                    self._scans[ticket, operation.request["scan"]].append(operation)

    def check(self) -> None:
        """Every redemption and annulment was done once, for one who asked for it; what has ended was not let in."""
        for (ticket, scan), fresh in self._scans.items():
            if len(fresh) > 1:
                raise contradiction(f"scan {scan} let two in with {ticket}", *fresh)
        for (_, id), asked in self._asked.items():
            self._check_admitted(id, asked)
        for ticket, entries in self.histories.items():
            for number, entry in enumerate(entries, 1):
                self._check_entry(ticket, number, entry)
            self._check_end(ticket, entries)

    def _check_admitted(self, booking: str, asked: Sequence[Operation]) -> None:
        """A booking is told whom this very scan has let in, the same each time: those who are in now, at first."""
        told_before: dict[str | None, Operation] = {}
        for operation in asked:
            for facts in bookings_in(operation):
                admitted = facts.get("admitted", [])
                shown = redemptions_shown(operation)[facts["id"]]
                before = told_before.setdefault(operation.request.get("scan"), operation)
                if "scan" in operation.request and admitted != (before.reply or {})["admitted"]:
                    raise contradiction(f"this scan let in others of {booking} before", before, operation)
                if not admitted or (operation.changed and not {*admitted} <= shown.keys()):
                    raise contradiction(f"these cannot have been let in: {admitted}", operation)

    def _check_entry(self, ticket: str, number: int, entry: Entry) -> None:
        what = f"{entry.what} {number} of {ticket}"
        asked = self._asked[entry.what, ticket]
        fresh = [of for of in asked if of.changed and len(told(of.reply or {})) == number]
        lost = [of for of in asked if of.unknown]
        booking = self._claims.tickets[ticket].booking if ticket in self._claims.tickets else ""
        if entry.what == "redeem":
            whole = self._asked["redeem", booking]
            lost += [of for of in whole if of.unknown or (of.changed and _admitted(of, ticket))]
        doer = one(what, fresh, lost, asked)
        if doer.unknown:
            # Another request may have done it, but none that was sent earlier.
            self._claims.claim("ticket", ticket, doer, -inf, 2 * number)
        if fresh:
            self._claims.claim("ticket", ticket, doer, 2 * number, 2 * number)
            if entry.what == "annul" and entry.reason != doer.request.get("reason"):
                raise contradiction(f"{what} had another reason", doer)
        if fresh and not doer.since - self._slack <= milliseconds(entry.at) <= doer.until + self._slack:
            raise contradiction(f"{what} was not then", doer)
        for replay in asked:
            if entry.what == "redeem" and replay.replayed and len(told(replay.reply or {})) == number:
                self._check_replay(replay, fresh, lost)

    def _check_replay(self, replay: Operation, fresh: list[Operation], lost: list[Operation]) -> None:
        scan = replay.request.get("scan")
        if scan is None or scan not in [done.request.get("scan") for done in fresh or lost]:
            raise contradiction("this is replayed, and this scan let nobody in", *fresh[:1], replay)

    def _check_end(self, ticket: str, entries: Sequence[Entry]) -> None:
        known = self._claims.tickets.get(ticket)
        if known is None or known.ended is None:
            return
        ended = known.ended.at
        inside = [
            (milliseconds(entry.at), milliseconds(entries[number].at) if number < len(entries) else inf)
            for number, entry in enumerate(entries, 1)
            if entry.what == "redeem"
        ]
        for redeemed, annulled in inside:
            early = ended is None or redeemed + self._slack < ended
            late = ended is None or ended < annulled - self._slack
            if annulled == inf or (early and late) or (ended is not None and redeemed - self._slack > ended):
                what = "reissued" if known.ended.what == "reissue" else "cancelled"
                raise contradiction(f"ticket {ticket} was redeemed and {what}", *known.ended.shown_by[:1])

    def read_ticket(self, operation: Operation, facts: Row) -> None:
        """Claim when a ticket was as a reply shows it."""
        number = len(told(facts))
        # What was done again is past.
        last = inf if operation.cmd == "redeem" and operation.replayed else 2 * number + 1
        self._claims.claim("ticket", facts["id"], operation, 2 * number + 1, last)

    def read_booking(self, operation: Operation, facts: Row, redeemed: Mapping[str, str]) -> None:
        """Claim when those tickets of a booking were redeemed, and the others were not."""
        for ticket in valid_tickets(facts):
            first, last = self.redeemed_then(ticket, redeemed[ticket]) if ticket in redeemed else self._valid(ticket)
            if operation.cmd == "redeem" and operation.changed:
                first -= 1
                if ticket not in redeemed:
                    raise contradiction(f"ticket {ticket} was not redeemed with all others", operation)
            self._claims.claim("ticket", ticket, operation, first, last)

    def redeemed_then(self, ticket: str, at: str) -> tuple[float, float]:
        """Return at which moments a ticket can have been redeemed since this time; (inf, -inf) for none."""
        entries = self.histories.get(ticket, [])
        numbers = [number for number, entry in enumerate(entries, 1) if entry.what == "redeem" and entry.at == at]
        return 2 * min(numbers, default=inf) + 1, 2 * max(numbers, default=-inf) + 1

    def _valid(self, ticket: str) -> tuple[float, float]:
        # A ticket with an even number of entries is valid.
        return 1, 2 * (len(self.histories.get(ticket, [])) // 2 * 2) + 1

    def was_done_before(self, operation: Operation) -> bool:
        """Whether this very scan had let somebody in before it was asked for again."""
        done = self._scans.get((operation.request["ticket"], operation.request.get("scan", "")), [])
        return any(other.answered < operation.invoked for other in done)


def _admitted(operation: Operation, ticket: str) -> bool:
    return any(ticket in facts.get("admitted", ()) for facts in bookings_in(operation))
