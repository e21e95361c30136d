"""Replies as people see them on a terminal: in columns that fit its width, or in sentences, with times in their zone.

Knows the layout of each kind of reply, and nothing of where it goes. What it returns has no control characters.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import asdict

from ticketctl import sentences
from ticketctl.cells import cell
from ticketctl.columns import Step, drawn, fit, total, widths_of
from ticketctl.facts import last_of
from ticketctl.sale import phase
from ticketctl.times import Zone
from ticketd.wire.replies import (
    BookingFacts,
    BookingReply,
    BookingsReply,
    EventFacts,
    EventReply,
    EventsReply,
    EventStats,
    Reply,
    SlowCommit,
    StatsReply,
    TicketReply,
)

# What stands below the name of each column: one text for each row.
_Columns = dict[str, list[str]]

_EVENT_COLUMNS = ("id", "name", "date", "available", "held", "sold", "capacity")
# Columns that are shown if an event has something there.
_SALE_COLUMNS = ("waiting", "opens", "closes", "paused", "per_buyer")
_BOOKING_COLUMNS = ("id", "event", "quantity", "state", "booked_at", "expires", "buyer", "by")
_STATS_COLUMNS = ("id", "sold", "held", "expired", "refused")
# Fields of stats that are tables of their own.
_STATS_LISTS = ("busiest", "slowest")
# Columns that are aligned to the right.
_FIGURES = (
    *("available", "held", "sold", "expired", "capacity", "waiting", "per_buyer", "quantity"),
    *("seconds", "sync_seconds", "requests", "queues"),
)
# Times in these columns are shown to the second: they are in the midst of a sale.
_TO_THE_SECOND = ("booked_at", "expires", "at")
# How a list of events becomes narrower. Ids are whole, since people type them.
_NARROWER_EVENTS: Sequence[Step] = (
    *(("name", 20), ("held", 0), ("sold", 0), ("name", 12), ("capacity", 0), ("sale", 0), ("date", 0)),
    *(("waiting", 0), ("name", 6), ("name", 0), ("available", 0)),
)
# Of one event all is shown, as far as its name can be cut.
_NAME_CUT: Sequence[Step] = (("name", 16),)
# The same for bookings: most ids have 36 characters.
_NARROWER_BOOKINGS: Sequence[Step] = (
    *(("buyer", 20), ("by", 0), ("expires", 0), ("buyer", 10), ("booked_at", 0), ("event", 0), ("buyer", 0)),
    *(("quantity", 0), ("state", 0)),
)
# How columns of bookings are called where room is scarce.
_SHORT = {"quantity": "QTY", "booked_at": "BOOKED"}
_NARROWER_STATS: Sequence[Step] = (("refused", 20), ("expired", 0), ("queues", 0), ("requests", 0))


def table(reply: Reply, zone: Zone) -> str:
    """Return a reply as text without the newline at its end."""
    match reply:
        case EventsReply():
            return (_list(reply.events, zone) if reply.events else "no events") + more(reply)
        case EventReply():
            return _event(reply, zone) + ("\n(as before)" if reply.replayed else "")
        case BookingReply():
            return sentences.of_booking(reply, zone)
        case BookingsReply():
            return (BookingsTable(zone).rows(reply.bookings) if reply.bookings else "no bookings") + more(reply)
        case TicketReply():
            return sentences.of_ticket(reply, zone)
        case StatsReply():
            return _stats(reply, zone)
        case _:
            return _aligned([(name, _value(name, value, zone)) for name, value in asdict(reply).items()])


def more(reply: EventsReply | BookingsReply) -> str:
    """Return the line that says after which id a list goes on, or nothing if this is its end."""
    after = last_of(reply)
    return f"\n(more after {cell(after)})" if reply.more and after else ""


class BookingsTable:
    """Bookings under the names of their columns, some after the other.

    Columns only grow. Once they are too wide for the terminal, less is shown of each booking. Whenever other columns
    are shown than before, their names stand above them.
    """

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._is_narrow = False
        self._widths: dict[str, int] = {}
        self._named: list[str] = []

    def rows(self, bookings: Sequence[BookingFacts]) -> str:
        """Return the rows of these bookings, at least one."""
        columns = self._columns(bookings)
        if not self._is_narrow and total(self._widths) > _room():
            self._is_narrow, self._widths = True, {}
            columns = self._columns(bookings)
        widths = fit(self._widths, _NARROWER_BOOKINGS, _room()) if self._is_narrow else self._widths
        if self._named == list(widths):
            columns = {name: texts[1:] for name, texts in columns.items()}
        self._named = list(widths)
        return drawn(columns, widths, _FIGURES)

    def _columns(self, bookings: Sequence[BookingFacts]) -> _Columns:
        """Return the texts of each column, and widen the columns to fit them."""
        columns = _columns(_BOOKING_COLUMNS, bookings, self._zone)
        if self._is_narrow:
            columns = {name: self._shortened(name, texts) for name, texts in columns.items()}
            # A column that no booking has filled so far is left out.
            columns = {name: texts for name, texts in columns.items() if name in self._widths or any(texts[1:])}
        self._widths = {name: max(width, self._widths.get(name, 0)) for name, width in widths_of(columns).items()}
        return columns

    def _shortened(self, name: str, texts: list[str]) -> list[str]:
        heading, *values = texts
        if name in ("booked_at", "expires"):
            # Without the seconds, and the name of the zone.
            values = [value[: len("2027-07-11 20:00")] for value in values]
        return [_SHORT.get(name, heading), *values]


def _list(events: Sequence[EventFacts], zone: Zone) -> str:
    """Return events in columns, one a line; on a narrow terminal, with less about each."""
    used = [name for name in _SALE_COLUMNS if any(getattr(event, name) for event in events)]
    wide = _columns([*_EVENT_COLUMNS, *used], events, zone)
    if fitted := _fitted(wide, _NAME_CUT):
        return drawn(wide, fitted, _FIGURES)
    now = datetime.now(UTC)
    waiting = ("waiting",) if "waiting" in used else ()
    narrow = _columns([*_EVENT_COLUMNS, *waiting], events, zone)
    # Without the name of the zone.
    narrow["date"] = ["DATE", *(zone.show(event.date).rpartition(" ")[0] for event in events)]
    narrow["sale"] = ["SALE", *(phase(event, now) for event in events)]
    if not any(narrow["sale"][1:]):
        del narrow["sale"]
    return _shown(narrow, _NARROWER_EVENTS)


def _event(event: EventFacts, zone: Zone) -> str:
    """Return an event in columns; those of its sale become a line below it if the terminal is too narrow.

    If even the others do not fit, each has a line.
    """
    used = [name for name in _SALE_COLUMNS if getattr(event, name)]
    wide = _columns([*_EVENT_COLUMNS, *used], [event], zone)
    if fitted := _fitted(wide, _NAME_CUT if not used else ()):
        return drawn(wide, fitted, _FIGURES)
    columns = _columns(_EVENT_COLUMNS, [event], zone)
    if fitted := _fitted(columns, _NAME_CUT):
        return drawn(columns, fitted, _FIGURES) + _sale_below(event, zone)
    return _aligned([(name, value) for name, (_, value) in wide.items()])


def _sale_below(event: EventFacts, zone: Zone) -> str:
    times = [f"{name} {zone.show(at)}" for name in ("opens", "closes") if (at := getattr(event, name))]
    each = f"{event.per_buyer} per buyer" if event.per_buyer else ""
    waiting = f"{event.waiting} waiting" if event.waiting else ""
    said = ", ".join(filter(None, [waiting, *times, "paused" if event.paused else "", each]))
    return f"\n  {said}" if said else ""


def _stats(stats: StatsReply, zone: Zone) -> str:
    parts = [_aligned([(name, cell(value)) for name, value in asdict(stats).items() if name not in _STATS_LISTS])]
    if stats.busiest:
        busiest = _columns(_STATS_COLUMNS, stats.busiest, zone)
        busiest["refused"] = ["REFUSED", *map(_refused, stats.busiest)]
        parts.append(f"the busiest events since the daemon started:\n{_shown(busiest, _NARROWER_STATS)}")
    if stats.slowest:
        slowest = _columns(SlowCommit.__struct_fields__, stats.slowest, zone)
        parts.append(f"the slowest commits of the last hour:\n{_shown(slowest, _NARROWER_STATS)}")
    return "\n\n".join(parts)


def _refused(event: EventStats) -> str:
    most_first = sorted(event.refused.items(), key=lambda item: (-item[1], item[0]))
    return cell(", ".join(f"{count} {code}" for code, count in most_first))


def _aligned(fields: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in fields)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in fields)


def _columns(names: Iterable[str], items: Sequence[Any], zone: Zone) -> _Columns:
    """Return what stands in each column, below its name."""
    return {name: [name.upper(), *(_table_cell(name, getattr(item, name), zone) for item in items)] for name in names}


def _table_cell(column: str, value: Any, zone: Zone) -> str:
    if isinstance(value, bool):
        return column if value else ""
    if column == "waiting" and not value:
        return ""
    return _value(column, value, zone)


def _value(name: str, value: Any, zone: Zone) -> str:
    return zone.show(value, seconds=name in _TO_THE_SECOND) if isinstance(value, datetime) else cell(value)


def _shown(columns: _Columns, steps: Sequence[Step]) -> str:
    """Return the columns as lines, as narrow as the steps make them if the terminal is."""
    return drawn(columns, fit(widths_of(columns), steps, _room()), _FIGURES)


def _fitted(columns: _Columns, steps: Sequence[Step]) -> Mapping[str, int] | None:
    """Return the widths of the columns once the steps are taken, or None if that is still too wide."""
    widths = fit(widths_of(columns), steps, _room())
    return widths if total(widths) <= _room() else None


def _room() -> int:
    return shutil.get_terminal_size().columns
