"""Reads facts from replies, even if a server leaves some fields out. Pure."""

from datetime import datetime
from itertools import zip_longest

from ticketd.wire.replies import BookingFacts, BookingsReply, EventsReply


def last_of(reply: EventsReply | BookingsReply) -> str | None:
    """Return the id after which the next page begins, or None if a server does not say that."""
    if isinstance(reply, BookingsReply):
        # Older daemons do not send it. They send no empty page with more after it.
        return reply.last or (reply.bookings[-1].id if reply.bookings else None)
    return reply.events[-1].id if reply.events else None


def redemptions(booking: BookingFacts) -> dict[str, datetime | None]:
    """Return those tickets of a booking that were redeemed, and when."""
    # A ticket without its time was redeemed too.
    return dict(zip_longest(booking.redeemed, booking.redeemed_at))


def redeemers(booking: BookingFacts) -> dict[str, str | None]:
    """Return those tickets of a booking of which the daemon tells who redeemed them, and who that was."""
    return dict(zip(booking.redeemed, booking.redeemed_by, strict=False))
