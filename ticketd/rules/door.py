"""Decides ``redeem`` and ``annul``: at any time, each ticket is redeemed at most once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET

from ticketd.model import Booking, Redemption, redeemed_at, ticket_parts, time_of
from ticketd.rules.showing import (
    ANNULMENTS_MAX,
    booking_reply,
    no_ticket,
    not_valid,
    show_redeemed,
    ticket_ids,
    ticket_reply,
    too_late,
    too_often,
)
from ticketd.rules.working_set import WorkingSet
from ticketd.wire.replies import BookingReply, ErrorReply, Reply
from ticketd.wire.requests import Annul, Redeem

# So many tickets of whole bookings are listed in the replies of a batch, besides those of the last booking.
TICKETS_LISTED_MAX = 4_000


def redeem(working_set: WorkingSet, request: Redeem) -> Reply:
    """Redeem a ticket, or all valid tickets of a booking."""
    booking_id, ticket = ticket_parts(request.ticket)
    booking = working_set.bookings.get(booking_id)
    if booking is None or not booking.had(ticket):
        whole = working_set.bookings.get(request.ticket)
        return _redeem_all(working_set, whole, request) if whole else _nothing(request.ticket)
    if refusal := _wrong_event(booking, request):
        return refusal
    history = working_set.history(booking_id, ticket)
    if redeemed := _redeemed_by(history, request):
        return ticket_reply(booking, ticket, redeemed, replayed=True)
    if refusal := not_valid(working_set, booking, ticket):
        return refusal
    _redeem(working_set, booking, ticket, request)
    return ticket_reply(booking, ticket, working_set.history(booking_id, ticket))


def _nothing(id: str) -> ErrorReply:
    return ErrorReply("ticket_not_found", f"there is no ticket and no booking {id}")


def _redeem_all(working_set: WorkingSet, booking: Booking, request: Redeem) -> Reply:
    if refusal := _wrong_event(booking, request):
        return refusal
    if booking.state not in ("confirmed", "cancelled"):
        return too_late(working_set, booking)
    if working_set.tickets_listed >= TICKETS_LISTED_MAX:
        return ErrorReply("busy", "too many bookings are redeemed at this moment; try again", retry_after=0.1)
    # A ticket that was reissued since counts too: what took its place must not be redeemed by the same scan.
    histories = working_set.redemptions.get(booking.id, {})
    if any(_redeemed_by(history, request) for history in histories.values()):
        return _redeemed(working_set, booking, _admitted_by(booking, histories, request), replayed=True)
    # Without ``not_valid``, which goes through all tickets of the booking each time.
    cancelled = booking.cancelled()
    valid = [
        ticket
        for ticket in booking.tickets
        if ticket not in cancelled and redeemed_at(histories.get(ticket, ())) is None
    ]
    if not valid:
        return _none_valid(working_set, booking)
    for ticket in valid:
        _redeem(working_set, booking, ticket, request)
    return _redeemed(working_set, booking, valid)


def _admitted_by(booking: Booking, histories: Mapping[str, Sequence[Redemption]], request: Redeem) -> Iterator[str]:
    """Yield the tickets that were let in by this very scan, as it was answered: in the order of their places."""
    earlier = {new: old for old, new in booking.replaced().items()}
    for place in booking.tickets:
        ticket: str | None = place
        while ticket is not None and not _redeemed_by(histories.get(ticket, ()), request):
            ticket = earlier.get(ticket)
        if ticket is not None:
            yield ticket


def _redeemed(
    working_set: WorkingSet, booking: Booking, admitted: Iterable[str], *, replayed: bool = False
) -> BookingReply:
    working_set.tickets_listed += booking.quantity
    reply = booking_reply(booking, replayed=replayed)
    show_redeemed(working_set, booking, reply)
    reply.admitted = ticket_ids(booking, admitted)
    return reply


def _none_valid(working_set: WorkingSet, booking: Booking) -> ErrorReply:
    times = [redeemed_at(working_set.history(booking.id, ticket)) for ticket in booking.tickets]
    last = max((at for at in times if at is not None), default=None)
    if last is None:
        return ErrorReply("already_cancelled", f"booking {booking.id} is cancelled")
    time = time_of(last)
    message = f"all tickets of booking {booking.id} were redeemed, the last at {msgspec.to_builtins(time)}"
    return ErrorReply("already_redeemed", message, redeemed_at=time)


def annul(working_set: WorkingSet, request: Annul) -> Reply:
    """Take back the redemption of a ticket."""
    booking_id, ticket = ticket_parts(request.ticket)
    booking = working_set.bookings.get(booking_id)
    if booking is None or not booking.had(ticket):
        return no_ticket(request.ticket)
    if refusal := _wrong_event(booking, request):
        return refusal
    history = working_set.history(booking_id, ticket)
    if not history:
        return ErrorReply("not_redeemed", f"ticket {request.ticket} was never redeemed, so there is nothing to annul")
    if redeemed_at(history) is None:
        return ticket_reply(booking, ticket, history, replayed=True)
    if len(history) >= 2 * ANNULMENTS_MAX:
        return too_often(f"ticket {request.ticket}", "annulled", ANNULMENTS_MAX)
    note = None if request.reason is UNSET else request.reason
    working_set.redeem(
        Redemption(booking_id, ticket, len(history) + 1, "annul", working_set.now, note, working_set.actor)
    )
    return ticket_reply(booking, ticket, working_set.history(booking_id, ticket))


def _redeem(working_set: WorkingSet, booking: Booking, ticket: str, request: Redeem) -> None:
    _record(working_set, booking, ticket, "redeem", str(request.scan))


def _record(
    working_set: WorkingSet, booking: Booking, ticket: str, what: Literal["redeem", "annul"], note: str | None
) -> None:
    number = len(working_set.history(booking.id, ticket)) + 1
    working_set.redeem(Redemption(booking.id, ticket, number, what, working_set.now, note, working_set.actor))


def _redeemed_by(history: Sequence[Redemption], request: Redeem) -> Sequence[Redemption]:
    """Return a history up to the redemption by this very scan; it is empty if there is none."""
    for number, each in enumerate(history, 1):
        if each.what == "redeem" and each.note == request.scan:
            return history[:number]
    return ()


def _wrong_event(booking: Booking, request: Redeem | Annul) -> ErrorReply | None:
    if request.event is UNSET or request.event == booking.event:
        return None
    return ErrorReply(
        "wrong_event", f"{request.ticket} is for event {booking.event}, not {request.event}; nothing was changed"
    )
