"""Replies to text: a table for people, tab-separated lines for pipes, JSON for programs.

Whatever a server sends, no control character of it reaches the terminal.
"""

import shutil
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from ticketd.declared import Command
from ticketd.model import printable
from ticketd.protocol import (
    BookingFacts,
    BookingReply,
    BookingsReply,
    CommandHelp,
    ErrorReply,
    EventFacts,
    EventReply,
    EventsReply,
    HelpReply,
    PongReply,
    Reply,
    StatsReply,
    TicketReply,
    TicketsReply,
    encode,
)

Mode = Literal["table", "plain", "json"]

_EVENT_COLUMNS = ("id", "name", "date", "available", "held", "sold", "capacity")
_BOOKING_COLUMNS = ("id", "event", "quantity", "state", "expires")
_TICKET_COLUMNS = ("id", "event", "booking", "state", "redeemed_at")
_FIGURES = ("available", "held", "sold", "capacity", "quantity")
_NAME_CELLS_MIN = 16
_USAGE_CHARS_MAX = 70

# In a pipe a booking, alone or among others, has these columns.
_BOOKING_FIELDS = (
    *("id", "event", "quantity", "state", "available", "version", "tickets"),
    *("expires", "cancelled", "redeemed"),
)


def render(reply: Reply, mode: Mode) -> str:
    """Return a reply as text, without the newline at its end; it may be empty."""
    if mode == "json":
        return printable(encode(reply).decode())
    return _table(reply) if mode == "table" else _plain(reply)


def error_text(reply: ErrorReply) -> str:
    """Return a refusal for people."""
    later = f" (again after {reply.retry_after:g} s)" if reply.retry_after is not None else ""
    return printable(f"{reply.code}: {reply.message}{later}")


def _plain(reply: Reply) -> str:
    match reply:
        case EventsReply():
            return "\n".join(_tabbed(msgspec.structs.astuple(event)) for event in reply.events)
        case EventReply():
            return _tabbed(msgspec.structs.astuple(reply)[: len(EventFacts.__struct_fields__)])
        case BookingReply():
            return _booking_line(reply) + ("\treplayed" if reply.replayed else "")
        case BookingsReply():
            return "\n".join(map(_booking_line, reply.bookings))
        case TicketReply():
            again = "replayed" if reply.replayed else None
            return _tabbed(filter(None, (reply.id, reply.event, reply.booking, reply.state, reply.redeemed_at, again)))
        case TicketsReply():
            return "\n".join(_tabbed(filter(None, msgspec.structs.astuple(ticket))) for ticket in reply.tickets)
        case StatsReply():
            return "\n".join(_tabbed(item) for item in msgspec.structs.asdict(reply).items())
        case HelpReply():
            return _help(reply)
        case PongReply():
            return "pong"
        case ErrorReply():
            return error_text(reply)


def _table(reply: Reply) -> str:
    match reply:
        case EventsReply():
            return _columns(_EVENT_COLUMNS, reply.events) if reply.events else "no events"
        case EventReply():
            return _columns(_EVENT_COLUMNS, [reply]) + ("\n(as before)" if reply.replayed else "")
        case BookingReply():
            what = f"{reply.quantity} ticket{'s' if reply.quantity > 1 else ''} of event {reply.event}"
            again = ", as before" if reply.replayed else ""
            until = f" until {_time(reply.expires)}" if reply.expires else ""
            lines = [f"booking {reply.id}: {what}, {reply.state}{until}{again}; {reply.available} left after it"]
            lines += [f"  ticket {ticket}{_fate(ticket, reply)}" for ticket in reply.tickets]
            return "\n".join(map(printable, lines))
        case BookingsReply():
            return _columns(_BOOKING_COLUMNS, reply.bookings) if reply.bookings else "no bookings"
        case TicketReply():
            at = f" at {_time(reply.redeemed_at)}" if reply.redeemed_at else ""
            again = ", as before" if reply.replayed else ""
            whose = f"event {reply.event}, booking {reply.booking}"
            return printable(f"ticket {reply.id}: {whose}, {reply.state}{at}{again}")
        case TicketsReply():
            return _columns(_TICKET_COLUMNS, reply.tickets) if reply.tickets else "no tickets"
        case StatsReply():
            return "\n".join(f"{name:<16} {_text(value)}" for name, value in msgspec.structs.asdict(reply).items())
        case _:
            return _plain(reply)


def _columns(columns: Sequence[str], items: Sequence[Any]) -> str:
    """Return items under the names of their columns, the names of events cut to the width of the terminal."""
    rows = [columns, *([_cell(getattr(item, column)) for column in columns] for item in items)]
    widths = [max(map(_cells, column)) for column in zip(*rows, strict=True)]
    if "name" in columns:
        name = columns.index("name")
        spare = shutil.get_terminal_size().columns - sum(widths) - 2 * (len(widths) - 1)
        if spare < 0:
            widths[name] = max(_NAME_CELLS_MIN, widths[name] + spare)
    lines = []
    for row in rows:
        cells = [
            _padded(text, width, right=column in _FIGURES)
            for column, text, width in zip(columns, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0].upper().replace("_", " "), *lines[1:]])


def usages(commands: Iterable[Command | CommandHelp]) -> list[str]:
    """Return a line for each command. One that takes very much does not push the others apart."""
    commands = list(commands)
    width = max((len(command.usage) for command in commands if len(command.usage) <= _USAGE_CHARS_MAX), default=0)
    return [printable(f"{command.usage:<{width}}  {command.summary}") for command in commands]


def _help(reply: HelpReply) -> str:
    if len(reply.commands) != 1:
        return "\n".join(usages(reply.commands))
    command = reply.commands[0]
    lines = [command.usage, f"  {command.summary}"]
    lines += [f"  {field.name:<10} {field.description}; {field.must_be}" for field in command.fields]
    return "\n".join(map(printable, lines))


def _fate(ticket: str, booking: BookingReply) -> str:
    if ticket in booking.cancelled:
        return ", cancelled"
    return ", redeemed" if ticket in booking.redeemed else ""


def _booking_line(booking: BookingFacts) -> str:
    values = [getattr(booking, field) for field in _BOOKING_FIELDS]
    return _tabbed(",".join(value) if isinstance(value, list | tuple) else value for value in values)


def _tabbed(values: Iterable[Any]) -> str:
    return "\t".join(_text(value) for value in values)


def _text(value: Any) -> str:
    return "" if value is None else printable(str(msgspec.to_builtins(value)))


def _cell(value: Any) -> str:
    return _time(value) if isinstance(value, datetime) else _text(value)


def _time(moment: datetime) -> str:
    """Return a time for people: to the second, which for what ends is rather too early than too late."""
    return _text(moment.replace(microsecond=0))


def _cells(text: str) -> int:
    # Most names are ASCII, and a one-shot command starts faster without the tables of wcwidth.
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    return max(0, wcswidth(text))


def _padded(text: str, width: int, *, right: bool) -> str:
    if _cells(text) > width:
        while _cells(text) > width - 1:
            text = text[:-1]
        text += "…"
    space = " " * (width - _cells(text))
    return space + text if right else text + space
