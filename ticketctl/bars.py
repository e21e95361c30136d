"""Draws a report on a terminal: a bar for each hour."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ticketctl.hours import Hour
from ticketctl.times import Zone
from ticketd.model import printable
from ticketd.wire.replies import EventReply

# How each part of a bar looks, and its color. What tells them apart is the shape, since not everybody sees colors.
_PARTS = {"sold": ("█", "red"), "held": ("▒", "yellow"), "cancelled": ("░", "green"), "redeemed": ("▪", "blue")}

# How long the longest bar may be, and how much of the terminal the rest of its row takes.
_CELLS_MIN, _CELLS_MAX = 10, 60
_OTHER_CELLS = 70


def draw(hours: Sequence[Hour], event: EventReply, zone: Zone) -> None:
    """Draw the hours of an event on stdout, with the times in this zone, and below them the totals."""
    console = Console(highlight=False)
    left = f"{event.capacity} tickets, {event.available} left, {event.held} held, {event.sold} sold"
    console.print(Text(printable(f"{event.name} ({event.id}): {left}")))
    if not hours:
        console.print("no bookings")
        return
    table = Table(box=None, pad_edge=False, header_style="", footer_style="", show_footer=True)
    table.add_column("HOUR", "total", no_wrap=True)
    for what, (shape, _) in _PARTS.items():
        total = sum(getattr(hour, what) for hour in hours)
        table.add_column(f"{shape} {what.upper()}", str(total), justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    most = max(1, *map(_all, hours))
    cells = max(_CELLS_MIN, min(_CELLS_MAX, console.width - _OTHER_CELLS))
    for hour in hours:
        figures = [str(getattr(hour, what)) for what in _PARTS]
        table.add_row(zone.show(hour.hour), *figures, _bar(hour, most, cells))
    console.print(table)


def _all(hour: Hour) -> int:
    return sum(getattr(hour, what) for what in _PARTS)


def _bar(hour: Hour, most: int, cells: int) -> Text:
    """Return a bar of at most this many cells, which the hour with the most tickets fills."""
    bar = Text(no_wrap=True)
    counted, drawn = 0, 0
    for what, (shape, color) in _PARTS.items():
        counted += getattr(hour, what)
        # Rounded up, so that an hour with one ticket can be seen. Figures may be nonsense, whatever a server sends.
        until = min(cells, max(drawn, -(-cells * counted // most)))
        bar.append(shape * (until - drawn), color)
        drawn = until
    return bar
