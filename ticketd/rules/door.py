"""Decides ``redeem``: each ticket is redeemed at most once."""

from datetime import datetime

import msgspec

from ticketd.model import Booking, Redemption, ticket_id, ticket_parts, time_of
from ticketd.rules.working_set import WorkingSet
from ticketd.wire.replies import ErrorReply, Reply, TicketReply
from ticketd.wire.requests import Redeem


def ticket_reply(booking: Booking, ticket: str, redeemed: dict[str, int]) -> TicketReply:
    """Return the reply that shows a ticket. ``redeemed`` has the times of all redeemed tickets of its booking."""
    at = redeemed.get(ticket)
    id = ticket_id(booking.id, ticket)
    if at is not None:
        return TicketReply(id, booking.event, booking.id, "redeemed", time_of(at))
    return TicketReply(id, booking.event, booking.id, "cancelled" if ticket in booking.cancelled() else "valid")


def no_ticket(ticket: str) -> ErrorReply:
    """Return the refusal for a ticket that does not exist."""
    return ErrorReply("ticket_not_found", f"there is no ticket {ticket}")


def not_valid(booking: Booking, ticket: str, redeemed: dict[str, int], cancelled: set[str]) -> ErrorReply | None:
    """Return the refusal of a command for a ticket that is redeemed or cancelled, or None if it is valid."""
    if (at := redeemed.get(ticket)) is not None:
        time: datetime = time_of(at)
        message = f"ticket {ticket_id(booking.id, ticket)} was redeemed at {msgspec.to_builtins(time)}"
        return ErrorReply("already_redeemed", message, redeemed_at=time)
    if ticket in cancelled:
        return ErrorReply("already_cancelled", f"ticket {ticket_id(booking.id, ticket)} was cancelled")
    return None


def redeem(working_set: WorkingSet, request: Redeem) -> Reply:
    """Redeem a ticket."""
    booking_id, ticket = ticket_parts(request.ticket)
    booking = working_set.bookings.get(booking_id)
    if booking is None or ticket not in booking.tickets:
        return no_ticket(request.ticket)
    redeemed = working_set.redemptions.get(booking_id, {})
    if refusal := not_valid(booking, ticket, redeemed, booking.cancelled()):
        return refusal
    redemption = Redemption(booking_id, ticket, working_set.now)
    working_set.redeem(redemption)
    return TicketReply(request.ticket, booking.event, booking_id, "redeemed", time_of(redemption.at))
