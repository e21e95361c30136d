"""Counts what was sold, held, cancelled and redeemed of an event in each hour. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from msgspec import Struct

from ticketctl.times import aware
from ticketd.wire.replies import BookingRecord

_Count = Literal["sold", "held", "cancelled", "redeemed"]


class Hour(Struct):
    """How many tickets were sold, held, cancelled and redeemed in the hour that begins then, in UTC."""

    hour: datetime
    sold: int = 0
    held: int = 0
    cancelled: int = 0
    redeemed: int = 0


class Report(Struct, tag_field="reply", tag="report"):
    """The hours of an event in which there was something, and how many tickets in all."""

    event: str
    hours: list[Hour]
    sold: int
    held: int
    cancelled: int
    redeemed: int


def report_of(event: str, bookings: Iterable[BookingRecord]) -> Report:
    """Count the tickets of bookings of an event.

    A hold counts as held when it is made, or when it is offered to who waits in line, and as sold when it is confirmed.
    What was cancelled stays sold in the hour in which it was. A redemption that was annulled does not count.
    """
    hours: dict[datetime, Hour] = {}

    def count(what: _Count, at: datetime, tickets: int) -> None:
        begin = aware(at).replace(minute=0, second=0, microsecond=0)
        hour = hours.setdefault(begin, Hour(begin))
        setattr(hour, what, getattr(hour, what) + tickets)

    for booking in bookings:
        if not _waited(booking):
            began_held = booking.made is not None and booking.made.seconds is not None
            count("held" if began_held else "sold", booking.booked_at, booking.quantity)
        for change in booking.changes:
            if change.what == "offer":
                count("held", change.at, booking.quantity)
            elif change.what == "confirm":
                count("sold", change.at, booking.quantity)
            elif change.what == "cancel":
                count("cancelled", change.at, len(change.tickets))
        for at in booking.redeemed_at:
            count("redeemed", at, 1)
    ordered = [hours[begin] for begin in sorted(hours)]
    totals = {what: sum(getattr(hour, what) for hour in ordered) for what in Hour.__struct_fields__[1:]}
    return Report(event, ordered, **totals)


def _waited(booking: BookingRecord) -> bool:
    """Whether a booking began in the waiting list."""
    return booking.state == "waiting" or any(change.what in ("offer", "leave") for change in booking.changes[:1])
