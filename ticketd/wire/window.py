"""When an event is on sale, as requests and events.json say it: brought to what ledgers keep, and checked. Pure."""

from datetime import datetime
from typing import TypeVar

from msgspec import UnsetType

from ticketd.model import milliseconds, time_of, utc

# None clears a time, and UNSET says nothing of it.
Moment = TypeVar("Moment", datetime | None, datetime | UnsetType | None)

NAMES = ("opens", "closes")


def checked_window(opens: Moment, closes: Moment, names: tuple[str, str] = NAMES) -> tuple[Moment, Moment]:
    """Return both times in UTC, rounded up to whole milliseconds. Raises as ``utc`` does, and if they are out of order.

    ``names`` is what the message calls them.
    """
    opens, closes = _as_kept(opens, names[0]), _as_kept(closes, names[1])
    if isinstance(opens, datetime) and isinstance(closes, datetime) and closes <= opens:
        raise ValueError(f"{names[1]} must be later than {names[0]}")
    return opens, closes


def _as_kept(time: Moment, name: str) -> Moment:
    if time is None or isinstance(time, UnsetType):
        return time
    try:
        return time_of(milliseconds(utc(time, name)))
    except OverflowError:
        raise ValueError(f"{name} must be within the years 1 to 9999 in UTC") from None
