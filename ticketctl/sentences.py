"""Shows a booking or a ticket on a terminal: in sentences, with a line for each thing that happened to it."""

from collections.abc import Mapping
from datetime import datetime

from ticketctl.facts import redeemers, redemptions
from ticketctl.times import Zone
from ticketd.model import printable
from ticketd.wire.replies import BookingFacts, BookingReply, ChangeFacts, RedemptionFacts, TicketReply

_DONE = {
    "offer": "offered",
    "leave": "left the line",
    "extend": "extended",
    "confirm": "confirmed",
    "release": "released",
    "expire": "expired",
    "cancel": "cancelled",
    "reissue": "reissued",
}


def tickets_of(booking: BookingFacts) -> str:
    """Return what a booking is for: ``2 tickets of event jazz``."""
    return f"{booking.quantity} ticket{'s' if booking.quantity > 1 else ''} of event {booking.event}"


def of_booking(booking: BookingReply, zone: Zone) -> str:
    """Return what a booking is, its tickets, and what happened to it."""
    whose = f" for {booking.buyer}" if booking.buyer else ""
    again = ", as before" if booking.replayed else ""
    until = f" until {zone.show(booking.expires, seconds=True)}" if booking.expires else ""
    place = "" if booking.position is None else f", number {booking.position:,} in line"
    state = f"{booking.state}{place}{until}{again}"
    left = "" if booking.state == "waiting" else f"; {booking.available} left after it"
    lines = [f"booking {booking.id}: {tickets_of(booking)}{whose}, {state}{left}"]
    redeemed, by = redemptions(booking), redeemers(booking)
    lines += [
        f"  ticket {ticket}{_ticket_state(ticket, booking, redeemed, zone)}{_by(by.get(ticket))}"
        for ticket in booking.tickets
    ]
    lines.append(f"  made at {zone.show(booking.booked_at, seconds=True)}{_by(booking.by)}")
    lines += [f"  {_change(change, zone)}" for change in booking.changes]
    return "\n".join(map(printable, lines))


def _ticket_state(ticket: str, booking: BookingReply, redeemed: Mapping[str, datetime | None], zone: Zone) -> str:
    if ticket in redeemed:
        at = redeemed[ticket]
        when = f" at {zone.show(at, seconds=True)}" if at else ""
        return f", redeemed{when}{' by this scan' if ticket in booking.admitted else ''}"
    return ", cancelled" if ticket in booking.cancelled else ""


def _change(change: ChangeFacts, zone: Zone) -> str:
    said = f"{_DONE[change.what]} at {zone.show(change.at, seconds=True)}{_by(change.by)}"
    if change.expires:
        return f"{said}, until {zone.show(change.expires, seconds=True)}"
    if change.what == "reissue":
        return f"{said}: {' is now '.join(change.tickets)}"
    return f"{said}: {', '.join(change.tickets)}" if change.tickets else said


def of_ticket(ticket: TicketReply, zone: Zone) -> str:
    """Return what a ticket is, and what happened to it at the door."""
    at = f" at {zone.show(ticket.redeemed_at, seconds=True)}" if ticket.redeemed_at else ""
    again = ", as before" if ticket.replayed else ""
    by = _by(ticket.by)
    head = f"ticket {ticket.id}: event {ticket.event}, booking {ticket.booking}, {ticket.state}{at}{by}{again}"
    return "\n".join(map(printable, [head, *(f"  {_redemption(each, zone)}" for each in ticket.history)]))


def _redemption(redemption: RedemptionFacts, zone: Zone) -> str:
    why = f": {redemption.reason}" if redemption.reason else ""
    what = "redeemed" if redemption.what == "redeem" else "annulled"
    return f"{what} at {zone.show(redemption.at, seconds=True)}{_by(redemption.by)}{why}"


def _by(name: str | None) -> str:
    """Return who did something, if the daemon tells."""
    return f" by {name}" if name else ""
