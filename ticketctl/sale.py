"""What the sale of an event does at a moment, in words: a countdown to when it opens or closes. Pure."""

from datetime import datetime, timedelta

from ticketctl.times import aware
from ticketd.wire.replies import EventFacts


def phase(event: EventFacts, now: datetime) -> str:
    """Return what somebody who wants to buy at this moment must know; nothing if it is on sale without an end."""
    opens, closes = (time and aware(time) for time in (event.opens, event.closes))
    if closes and closes <= now:
        return "closed"
    if event.paused:
        return "paused"
    if opens and now < opens:
        return f"opens in {countdown(opens - now)}"
    return f"closes in {countdown(closes - now)}" if closes else ""


def countdown(left: timedelta) -> str:
    """Return how long something takes: ``2 d 3 h``, ``03:04:05`` or ``04:05``.

    It is rounded up to seconds, so that it comes to nothing only when the time is over.
    """
    minutes, seconds = divmod(-(-left // timedelta(seconds=1)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    text = f"{minutes:02}:{seconds:02}"
    return f"{hours:02}:{text}" if hours else text
