"""What becomes of tickets at the door, in plain dictionaries."""

from datetime import datetime

from msgspec import UNSET

from tests.ledger.facts import CROSSED, Facts, Row, refused
from ticketd.wire.requests import Annul, Redeem


class Door(Facts):
    """Lets in whoever has a valid ticket, once for each scan."""

    def redeem(self, request: Redeem, now: datetime) -> list[Row]:
        row = self.bookings.get(request.ticket)
        own = [ticket for ticket, facts in self.tickets.items() if row and facts["booking"] == row["id"]]
        if request.ticket in self.tickets:
            row, own = self.bookings[self.tickets[request.ticket]["booking"]], [request.ticket]
        elif row is None:
            return [refused("ticket_not_found")]
        if request.event not in (UNSET, row["event"]):
            return [refused("wrong_event")]
        if not row["tickets"]:
            return [refused(CROSSED[row["state"]], **self.left(row["event"]))]
        whole = request.ticket not in self.tickets
        if said := [reply for ticket in own if (reply := self.said.get(("scan", ticket, request.scan)))]:
            if not whole:
                return [said[0] | {"replayed": True}]
            return [self.admitting(row["id"], [reply["id"] for reply in said]) | {"replayed": True}]
        spent = {ticket: self.spent(ticket) for ticket in own}
        valid = [ticket for ticket in own if not spent[ticket]]
        if not valid and not whole:
            return [refusal for refusal in spent.values() if refusal]
        if not valid:
            times = [at for ticket in own if (at := self.redeemed_at(ticket))]
            return [refused("already_redeemed", redeemed_at=max(times)) if times else refused("already_cancelled")]
        for ticket in valid:
            self.tickets[ticket]["history"].append(self.named({"what": "redeem", "at": now}))
            self.said["scan", ticket, request.scan] = self.ticket(ticket)
        return [self.admitting(row["id"], valid) if whole else self.ticket(request.ticket)]

    def admitting(self, booking: str, tickets: list[str]) -> Row:
        return self.with_redeemed(booking) | {"admitted": self.in_order(booking, tickets)}

    def annul(self, request: Annul, now: datetime) -> list[Row]:
        ticket = self.tickets.get(request.ticket)
        if ticket is None:
            return [refused("ticket_not_found")]
        if request.event not in (UNSET, self.bookings[ticket["booking"]]["event"]):
            return [refused("wrong_event")]
        if not ticket["history"]:
            return [refused("not_redeemed")]
        if not self.redeemed_at(request.ticket):
            return [self.ticket(request.ticket) | {"replayed": True}]
        reason = {} if request.reason is UNSET else {"reason": request.reason}
        ticket["history"].append(self.named({"what": "annul", "at": now, **reason}))
        return [self.ticket(request.ticket)]
