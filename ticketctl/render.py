"""Replies to text: a table for people, tab-separated lines for pipes, JSON for programs.

Whatever a server sends, no control character of it reaches the terminal.
"""

import shutil
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from ticketd.model import printable
from ticketd.protocol import (
    BookingReply,
    ErrorReply,
    EventFacts,
    EventReply,
    EventsReply,
    HelpReply,
    PongReply,
    Reply,
    StatsReply,
    TicketReply,
    encode,
)

Mode = Literal["table", "plain", "json"]

_EVENT_COLUMNS = ("id", "name", "date", "available", "held", "sold", "capacity")
_NAME_CELLS_MIN = 16


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
            tickets = ",".join(reply.tickets)
            values = (reply.id, reply.event, reply.quantity, reply.state, reply.available, reply.version, tickets)
            return _tabbed((*values, "replayed") if reply.replayed else values)
        case TicketReply():
            return _tabbed((reply.id, reply.event, reply.booking, reply.state))
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
            return event_table(reply.events) if reply.events else "no events"
        case EventReply():
            return event_table([reply]) + ("\n(it existed already)" if reply.replayed else "")
        case BookingReply():
            what = f"{reply.quantity} ticket{'s' if reply.quantity > 1 else ''} of event {reply.event}"
            again = ", as before" if reply.replayed else ""
            lines = [f"booking {reply.id}: {what}, {reply.state}{again}; {reply.available} left after it"]
            lines += [f"  ticket {ticket}" for ticket in reply.tickets]
            return "\n".join(map(printable, lines))
        case TicketReply():
            return printable(f"ticket {reply.id}: event {reply.event}, booking {reply.booking}, {reply.state}")
        case StatsReply():
            return "\n".join(f"{name:<16} {value}" for name, value in msgspec.structs.asdict(reply).items())
        case _:
            return _plain(reply)


def event_table(events: Sequence[EventFacts]) -> str:
    """Return events in columns, names cut to the width of the terminal."""
    rows = [_EVENT_COLUMNS, *(tuple(_text(getattr(event, column)) for column in _EVENT_COLUMNS) for event in events)]
    widths = [max(map(_cells, column)) for column in zip(*rows, strict=True)]
    name = _EVENT_COLUMNS.index("name")
    spare = shutil.get_terminal_size().columns - sum(widths) - 2 * (len(widths) - 1)
    if spare < 0:
        widths[name] = max(_NAME_CELLS_MIN, widths[name] + spare)
    lines = []
    for row in rows:
        cells = [
            _padded(text, width, right=column in ("available", "held", "sold", "capacity"))
            for column, text, width in zip(_EVENT_COLUMNS, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0].upper(), *lines[1:]])


def _help(reply: HelpReply) -> str:
    if len(reply.commands) != 1:
        width = max(len(command.usage) for command in reply.commands)
        return "\n".join(printable(f"{command.usage:<{width}}  {command.summary}") for command in reply.commands)
    command = reply.commands[0]
    lines = [command.usage, f"  {command.summary}"]
    lines += [f"  {field.name:<10} {field.description}; {field.must_be}" for field in command.fields]
    return "\n".join(map(printable, lines))


def _tabbed(values: Iterable[Any]) -> str:
    return "\t".join(_text(value) for value in values)


def _text(value: Any) -> str:
    return printable(str(msgspec.to_builtins(value)))


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
