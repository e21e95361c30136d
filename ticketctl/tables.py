"""Replies as people see them on a terminal: in columns and sentences, with times in their zone.

Knows the layout of each kind of reply, and nothing of where it goes. What it returns has no control characters.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from msgspec.structs import asdict

from ticketctl.cells import cell
from ticketctl.columns import Step, fit, total
from ticketctl.sale import phase
from ticketctl.times import Zone
from ticketd.model import printable
from ticketd.wire.replies import (
    BookingFacts,
    BookingReply,
    BookingsReply,
    ChangeFacts,
    EventFacts,
    EventReply,
    EventsReply,
    EventStats,
    RedemptionFacts,
    Reply,
    SlowCommit,
    StatsReply,
    TicketReply,
)

_EVENT_COLUMNS = ("id", "name", "date", "available", "held", "sold", "capacity")
# Columns that are shown if an event has something there.
_SALE_COLUMNS = ("opens", "closes", "paused", "per_buyer")
_BOOKING_COLUMNS = ("id", "event", "quantity", "state", "booked_at", "expires", "buyer", "by")
_STATS_COLUMNS = ("id", "sold", "held", "expired", "refused")
# Fields of stats that are tables of their own.
_STATS_LISTS = ("busiest", "slowest")
# Columns that are aligned to the right.
_FIGURES = (
    *("available", "held", "sold", "expired", "capacity", "per_buyer", "quantity"),
    *("seconds", "sync_seconds", "requests", "queues"),
)
# Times in these columns are shown to the second: they are in the midst of a sale.
_TO_THE_SECOND = ("booked_at", "expires", "at")
# How a list of events becomes narrower. Ids are whole, since people type them.
_NARROWER: Sequence[Step] = (
    *(("name", 20), ("held", 0), ("sold", 0), ("name", 12), ("capacity", 0), ("sale", 0), ("date", 0)),
    *(("name", 6), ("name", 0), ("available", 0)),
)
# Of one event all is shown, as far as its name can be cut.
_NAME_CUT: Sequence[Step] = (("name", 16),)
_DONE = {
    "extend": "extended",
    "confirm": "confirmed",
    "release": "released",
    "expire": "expired",
    "cancel": "cancelled",
    "reissue": "reissued",
}


def table(reply: Reply, zone: Zone) -> str:
    """Return a reply as text without the newline at its end."""
    match reply:
        case EventsReply():
            return (_list(reply.events, zone) if reply.events else "no events") + more(reply)
        case EventReply():
            return _event(reply, zone) + ("\n(as before)" if reply.replayed else "")
        case BookingReply():
            return _booking(reply, zone)
        case BookingsReply():
            return (BookingsTable(zone).rows(reply.bookings) if reply.bookings else "no bookings") + more(reply)
        case TicketReply():
            return _ticket(reply, zone)
        case StatsReply():
            return _stats(reply, zone)
        case _:
            return _aligned([(name, _value(name, value, zone)) for name, value in asdict(reply).items()])


def more(reply: EventsReply | BookingsReply) -> str:
    """Return the line that says after which id a list goes on, or nothing if this is its end."""
    after = last_of(reply)
    return f"\n(more after {cell(after)})" if reply.more and after else ""


def last_of(reply: EventsReply | BookingsReply) -> str | None:
    """Return the id after which the next page begins, or None if a server does not say that."""
    if isinstance(reply, BookingsReply):
        # Older daemons do not send it. They send no empty page with more after it.
        return reply.last or (reply.bookings[-1].id if reply.bookings else None)
    return reply.events[-1].id if reply.events else None


def redemptions(booking: BookingFacts) -> dict[str, datetime | None]:
    """Return those tickets of a booking that were redeemed, and when."""
    # Whatever a server sends: a ticket without its time was redeemed too.
    return dict(zip_longest(booking.redeemed, booking.redeemed_at))


def redeemers(booking: BookingFacts) -> dict[str, str | None]:
    """Return those tickets of a booking of which the daemon tells who redeemed them, and who that was."""
    return dict(zip(booking.redeemed, booking.redeemed_by, strict=False))


class BookingsTable:
    """Bookings under the names of their columns, some after the other: columns only grow."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._widths = list(map(len, _BOOKING_COLUMNS))
        self._began = False

    def rows(self, bookings: Sequence[BookingFacts]) -> str:
        """Return the rows of these bookings; above the first ones are the names of the columns."""
        rows = [_row(booking, _BOOKING_COLUMNS, self._zone) for booking in bookings]
        if not self._began:
            rows.insert(0, [name.upper() for name in _BOOKING_COLUMNS])
            self._began = True
        self._widths = [max(self._widths[at], *(_width(row[at]) for row in rows)) for at in range(len(self._widths))]
        return _lines(_BOOKING_COLUMNS, rows, self._widths)


def _list(events: Sequence[EventFacts], zone: Zone) -> str:
    """Return events in columns, one a line; on a narrow terminal, with less about each."""
    used = [name for name in _SALE_COLUMNS if any(getattr(event, name) for event in events)]
    wide = _columns([*_EVENT_COLUMNS, *used], events, zone)
    if fitted := _fitted(wide, _NAME_CUT):
        return _shown(wide, fitted)
    now = datetime.now(UTC)
    narrow = _columns(_EVENT_COLUMNS, events, zone)
    # Without the name of the zone.
    narrow["date"] = ["DATE", *(zone.show(event.date).rpartition(" ")[0] for event in events)]
    narrow["sale"] = ["SALE", *(phase(event, now) for event in events)]
    if not any(narrow["sale"][1:]):
        del narrow["sale"]
    return _shown(narrow, fit(_widths(narrow), _NARROWER, _room()))


def _event(event: EventFacts, zone: Zone) -> str:
    """Return an event in columns; those of its sale become a line below it if the terminal is too narrow."""
    used = [name for name in _SALE_COLUMNS if getattr(event, name)]
    wide = _columns([*_EVENT_COLUMNS, *used], [event], zone)
    if not used or _fitted(wide, ()):
        return _shown(wide, fit(_widths(wide), _NAME_CUT, _room()))
    columns = _columns(_EVENT_COLUMNS, [event], zone)
    return _shown(columns, fit(_widths(columns), _NAME_CUT, _room())) + _sale_below(event, zone)


def _sale_below(event: EventFacts, zone: Zone) -> str:
    times = [f"{name} {zone.show(at)}" for name in ("opens", "closes") if (at := getattr(event, name))]
    each = f"{event.per_buyer} per buyer" if event.per_buyer else ""
    said = ", ".join(filter(None, [*times, "paused" if event.paused else "", each]))
    return f"\n  {said}" if said else ""


def _booking(booking: BookingReply, zone: Zone) -> str:
    what = f"{booking.quantity} ticket{'s' if booking.quantity > 1 else ''} of event {booking.event}"
    whose = f" for {booking.buyer}" if booking.buyer else ""
    again = ", as before" if booking.replayed else ""
    until = f" until {zone.show(booking.expires, seconds=True)}" if booking.expires else ""
    lines = [f"booking {booking.id}: {what}{whose}, {booking.state}{until}{again}; {booking.available} left after it"]
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


def _ticket(ticket: TicketReply, zone: Zone) -> str:
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


def _stats(stats: StatsReply, zone: Zone) -> str:
    parts = [_aligned([(name, cell(value)) for name, value in asdict(stats).items() if name not in _STATS_LISTS])]
    if stats.busiest:
        rows = [[name.upper() for name in _STATS_COLUMNS], *(_stats_row(event) for event in stats.busiest)]
        busiest = dict(zip(_STATS_COLUMNS, zip(*rows, strict=True), strict=True))
        parts.append(f"the busiest events since the daemon started:\n{_shown(busiest, _widths(busiest))}")
    if stats.slowest:
        slowest = _columns(SlowCommit.__struct_fields__, stats.slowest, zone)
        parts.append(f"the slowest commits of the last hour:\n{_shown(slowest, _widths(slowest))}")
    return "\n\n".join(parts)


def _stats_row(event: EventStats) -> list[str]:
    most_first = sorted(event.refused.items(), key=lambda item: (-item[1], item[0]))
    refused = ", ".join(f"{count} {code}" for code, count in most_first)
    return [cell(value) for value in (event.id, event.sold, event.held, event.expired, refused)]


def _aligned(fields: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in fields)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in fields)


def _columns(names: Sequence[str], items: Iterable[Any], zone: Zone) -> dict[str, list[str]]:
    """Return what stands in each column, below its name."""
    rows = [_row(item, names, zone) for item in items]
    return {name: [name.upper(), *(row[at] for row in rows)] for at, name in enumerate(names)}


def _widths(columns: Mapping[str, Sequence[str]]) -> dict[str, int]:
    return {name: max(map(_width, texts)) for name, texts in columns.items()}


def _fitted(columns: Mapping[str, Sequence[str]], steps: Sequence[Step]) -> dict[str, int] | None:
    """Return the widths of the columns once the steps are taken, or None if that is still too wide."""
    widths = fit(_widths(columns), steps, _room())
    return widths if total(widths) <= _room() else None


def _room() -> int:
    return shutil.get_terminal_size().columns


def _shown(columns: Mapping[str, Sequence[str]], widths: Mapping[str, int]) -> str:
    """Return the columns that have a width, as lines."""
    names = list(widths)
    return _lines(names, zip(*(columns[name] for name in names), strict=True), list(widths.values()))


def _row(item: Any, columns: Sequence[str], zone: Zone) -> list[str]:
    return [_table_cell(column, getattr(item, column), zone) for column in columns]


def _table_cell(column: str, value: Any, zone: Zone) -> str:
    if isinstance(value, bool):
        return column if value else ""
    return _value(column, value, zone)


def _value(name: str, value: Any, zone: Zone) -> str:
    return zone.show(value, seconds=name in _TO_THE_SECOND) if isinstance(value, datetime) else cell(value)


def _lines(columns: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> str:
    return "\n".join(
        "  ".join(
            _padded(text, width, right=column in _FIGURES)
            for column, text, width in zip(columns, row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def _padded(text: str, width: int, *, right: bool) -> str:
    if _width(text) > width:
        while _width(text) > width - 1:
            text = text[:-1]
        text += "…"
    space = " " * (width - _width(text))
    return space + text if right else text + space


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    # Most names are ASCII, and a command starts faster without the tables of wcwidth.
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    return max(0, wcswidth(text))
