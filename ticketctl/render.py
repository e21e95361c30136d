"""Replies as text: a table on a terminal, tab-separated lines in a pipe, JSON for programs.

Control characters are escaped, whatever a server sends, so that none of them reaches the terminal.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any, Literal

import msgspec

from ticketd.model import printable
from ticketd.wire.codec import encode
from ticketd.wire.replies import (
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
    ReadyReply,
    Reply,
    TicketReply,
)

Mode = Literal["table", "plain", "json"]

_EVENT_COLUMNS = ("id", "name", "date", "available", "held", "sold", "capacity")
_BOOKING_COLUMNS = ("id", "event", "quantity", "state", "expires")
# Columns that are aligned to the right.
_FIGURES = ("available", "held", "sold", "capacity", "quantity")
# If the terminal is narrow, names are cut, but not below this.
_NAME_CELLS_MIN = 16
_USAGE_CHARS_MAX = 70

# The columns of a booking in a pipe, the same in every command.
_BOOKING_FIELDS = (
    *("id", "event", "quantity", "state", "available", "version", "tickets"),
    *("expires", "cancelled", "redeemed", "redeemed_at"),
)


def render(reply: Reply, mode: Mode) -> str:
    """Return a reply as text, without the newline at its end. The text may be empty."""
    if mode == "json":
        return printable(encode(reply).decode())
    return _table(reply) if mode == "table" else _plain(reply)


def error_text(reply: ErrorReply) -> str:
    """Return an error as one line for people."""
    later = f" (again after {reply.retry_after:g} s)" if reply.retry_after is not None else ""
    return printable(f"{reply.code}: {reply.message}{later}")


def cell(value: Any, separator: str = ",") -> str:
    """Return a value as text: nothing for None, the items of a list with the separator between, JSON for a record."""
    plain = msgspec.to_builtins(value)
    match plain:
        case None:
            text = ""
        case list() | tuple():
            return separator.join(cell(item) for item in plain)
        case bool() | dict():
            text = msgspec.json.encode(plain).decode()
        case _:
            text = str(plain)
    return printable(text)


def usages(commands: Iterable[CommandHelp]) -> list[str]:
    """Return a line for each command, with the summaries in one column. A very long usage does not move the column."""
    commands = list(commands)
    width = max((len(command.usage) for command in commands if len(command.usage) <= _USAGE_CHARS_MAX), default=0)
    return [printable(f"{command.usage:<{width}}  {command.summary}") for command in commands]


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
            return _tabbed(filter(None, msgspec.structs.astuple(reply)))
        case HelpReply():
            return _help(reply)
        case ErrorReply():
            return error_text(reply)
        case PongReply():
            return "pong"
        case ReadyReply():
            return "ready"
        case _:
            return "\n".join(map("\t".join, _fields(reply)))


def _table(reply: Reply) -> str:
    match reply:
        case EventsReply():
            return _events(reply) if reply.events else "no events"
        case EventReply():
            return _columns(_EVENT_COLUMNS, [reply]) + ("\n(as before)" if reply.replayed else "")
        case BookingReply():
            return _booking(reply)
        case BookingsReply():
            return _bookings(reply) if reply.bookings else "no bookings"
        case TicketReply():
            at = f" at {_time(reply.redeemed_at)}" if reply.redeemed_at else ""
            return printable(f"ticket {reply.id}: event {reply.event}, booking {reply.booking}, {reply.state}{at}")
        case HelpReply() | ErrorReply() | PongReply() | ReadyReply():
            return _plain(reply)
        case _:
            return _aligned(_fields(reply))


def _fields(reply: Reply) -> list[tuple[str, ...]]:
    """Return the names and values of a reply that has no layout of its own."""
    return [(name, cell(value)) for name, value in msgspec.structs.asdict(reply).items()]


def _aligned(fields: Sequence[tuple[str, ...]]) -> str:
    width = max(len(field[0]) for field in fields)
    return "\n".join("  ".join([field[0].ljust(width), *field[1:]]).rstrip() for field in fields)


def _booking(booking: BookingReply) -> str:
    what = f"{booking.quantity} ticket{'s' if booking.quantity > 1 else ''} of event {booking.event}"
    again = ", as before" if booking.replayed else ""
    until = f" until {_time(booking.expires)}" if booking.expires else ""
    lines = [f"booking {booking.id}: {what}, {booking.state}{until}{again}; {booking.available} left after it"]
    redeemed = redemptions(booking)
    lines += [f"  ticket {ticket}{_ticket_state(ticket, booking, redeemed)}" for ticket in booking.tickets]
    return "\n".join(map(printable, lines))


def redemptions(booking: BookingFacts) -> dict[str, datetime | None]:
    """Return those tickets of a booking that were redeemed, and when."""
    # Whatever a server sends: a ticket without its time was redeemed too.
    return dict(zip_longest(booking.redeemed, booking.redeemed_at))


def _ticket_state(ticket: str, booking: BookingReply, redeemed: Mapping[str, datetime | None]) -> str:
    if ticket in redeemed:
        at = redeemed[ticket]
        return f", redeemed at {_time(at)}" if at else ", redeemed"
    return ", cancelled" if ticket in booking.cancelled else ""


def _events(reply: EventsReply) -> str:
    return _columns(_EVENT_COLUMNS, reply.events) + _more(reply.events, reply.more)


def _bookings(reply: BookingsReply) -> str:
    return _columns(_BOOKING_COLUMNS, reply.bookings) + _more(reply.bookings, reply.more)


def _more(page: Sequence[EventFacts] | Sequence[BookingFacts], more: bool) -> str:
    return f"\n(more after {cell(page[-1].id)})" if more else ""


def _booking_line(booking: BookingFacts) -> str:
    return _tabbed(getattr(booking, field) for field in _BOOKING_FIELDS)


def _tabbed(values: Iterable[Any]) -> str:
    return "\t".join(map(cell, values))


def _columns(columns: Sequence[str], items: Sequence[Any]) -> str:
    """Return items under the names of their columns, with the names of events cut to the width of the terminal."""
    rows = [columns, *([_table_cell(getattr(item, column)) for column in columns] for item in items)]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
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
    return "\n".join([lines[0].upper(), *lines[1:]])


def _table_cell(value: Any) -> str:
    return _time(value) if isinstance(value, datetime) else cell(value)


def _time(moment: datetime) -> str:
    """Return a time to the second for people. It is cut, so that what runs out seems to end early rather than late."""
    return cell(moment.replace(microsecond=0))


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


def _help(reply: HelpReply) -> str:
    if len(reply.commands) != 1:
        return "\n".join(usages(reply.commands))
    command = reply.commands[0]
    lines = [command.usage, f"  {command.summary}"]
    lines += [f"  {field.name:<10} {field.description}; {field.must_be}" for field in command.fields]
    return "\n".join(map(printable, lines))
