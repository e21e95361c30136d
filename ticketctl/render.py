"""Replies as text: a table on a terminal, tab-separated lines in a pipe, JSON for programs.

Control characters are escaped, whatever a server sends, so that none of them reaches the terminal.
"""

import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec.structs import asdict

from ticketctl.cells import cell
from ticketctl.tables import table
from ticketctl.times import LOCAL, Zone
from ticketd.model import DATE_TITLE, printable
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

_USAGE_CHARS_MAX = 70

# The columns in a pipe, the same in every command. New ones go to the end, since scripts count them.
_EVENT_FIELDS = EventFacts.__struct_fields__
_BOOKING_FIELDS = (
    *("id", "event", "quantity", "state", "available", "version", "tickets"),
    *("expires", "cancelled", "redeemed", "redeemed_at", "replayed"),
    *("booked_at", "buyer", "changes", "by", "admitted", "redeemed_by", "position"),
)
_TICKET_FIELDS = ("id", "event", "booking", "state", "redeemed_at", "replayed", "history", "by")

# The codes of errors whose message has a time from the daemon, and nothing that somebody typed.
_TELLING_TIMES = ("not_on_sale", "already_redeemed")
_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def render(reply: Reply, mode: Mode, zone: Zone = LOCAL) -> str:
    """Return a reply as text, without the newline at its end. The text may be empty. ``zone`` is for tables."""
    match reply, mode:
        case _, "json":
            return printable(encode(reply).decode())
        case HelpReply(), _:
            return _help(reply, shutil.get_terminal_size().columns if mode == "table" else None, zone)
        case ErrorReply(), _:
            return error_text(reply)
        case PongReply(), _:
            return "pong"
        case ReadyReply(), _:
            return "ready"
        case _, "table":
            return table(reply, zone)
    return _plain(reply)


def error_text(reply: ErrorReply, zone: Zone | None = None) -> str:
    """Return an error as one line for people, with its times in this zone if one is given."""
    later = f" (again after {reply.retry_after:g} s)" if reply.retry_after is not None else ""
    message = reply.message
    if zone and reply.code in _TELLING_TIMES:
        message = _UTC.sub(lambda utc: _shown_in(zone, utc[0]), message)
    return printable(f"{reply.code}: {message}{later}")


def _shown_in(zone: Zone, utc: str) -> str:
    try:
        return zone.show(datetime.fromisoformat(utc), seconds=True)
    except ValueError:
        return utc


def _usages(commands: Sequence[CommandHelp], columns: int | None) -> list[str]:
    """Return a line for each command, with the summaries in one column. A very long usage does not move the column.

    If these lines do not fit into the columns of a terminal, they show each command's name instead of its usage.
    """
    width = max((len(command.usage) for command in commands if len(command.usage) <= _USAGE_CHARS_MAX), default=0)
    lines = [printable(f"{command.usage:<{width}}  {command.summary}") for command in commands]
    if columns is None or max(map(len, lines), default=0) <= columns:
        return lines
    lines = summaries([(command.command, command.summary) for command in commands], columns)
    return [*lines, "", "help COMMAND shows what a command takes"]


def summaries(commands: Iterable[tuple[str, str]], columns: int, indent: int = 0) -> list[str]:
    """Return commands, each with its summary, in two columns, wrapped to the columns of a terminal."""
    commands = list(commands)
    width = max((len(name) for name, _ in commands), default=0)
    return [
        line
        for name, summary in commands
        for line in wrapped(f"{name:<{width}}  {summary}", columns, indent + width + 2, indent)
    ]


def wrapped(text: str, columns: int | None, hanging: int, indent: int = 0) -> list[str]:
    """Return text in lines of so many columns. An option stays beside its value: ``[--id ID]``."""
    text = printable(text)
    if columns is None or indent + len(text) <= columns:
        return [" " * indent + text]
    kept = re.sub(r"\[--[^\]]* ", lambda option: option[0][:-1] + "\0", text)
    wrapped = textwrap.wrap(
        kept,
        max(columns, 40),
        initial_indent=" " * indent,
        subsequent_indent=" " * hanging,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [line.replace("\0", " ") for line in wrapped]


def booking_line(booking: BookingFacts) -> str:
    """Return a booking as a tab-separated line."""
    return _tabbed(_plain_value(booking, field) for field in _BOOKING_FIELDS)


def _plain(reply: Reply) -> str:
    match reply:
        case EventsReply():
            return "\n".join(map(_event_line, reply.events))
        case EventReply():
            return _event_line(reply)
        case BookingReply():
            return booking_line(reply)
        case BookingsReply():
            return "\n".join(map(booking_line, reply.bookings))
        case TicketReply():
            # Without the empty columns at its end.
            return _tabbed(_plain_value(reply, field) for field in _TICKET_FIELDS).rstrip("\t")
        case _:
            return "\n".join(f"{name}\t{cell(value)}" for name, value in asdict(reply).items())


def _event_line(event: EventFacts) -> str:
    return _tabbed(getattr(event, field) for field in _EVENT_FIELDS)


def _plain_value(item: Any, field: str) -> Any:
    """Return a value for a line: ``replayed`` is a word or nothing, since it is seldom there."""
    value = getattr(item, field, None)
    return ("replayed" if value else None) if field == "replayed" else value


def _tabbed(values: Iterable[Any]) -> str:
    return "\t".join(map(cell, values))


def _help(reply: HelpReply, columns: int | None, zone: Zone) -> str:
    if len(reply.commands) != 1:
        return "\n".join(_usages(reply.commands, columns))
    command = reply.commands[0]
    lines = [*wrapped(command.usage, columns, 8), *wrapped(command.summary, columns, 2, 2)]
    for field in command.fields:
        # People type times as they are in their zone.
        must_be = field.must_be.replace(DATE_TITLE, f"a day and time, such as {zone.example()}")
        lines += wrapped(f"{field.name:<10} {field.description}; {must_be}", columns, 13, 2)
    return "\n".join(lines)
