"""Draws a report on a terminal: a bar for each hour."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ticketctl.hours import Hour
from ticketctl.times import Zone
from ticketd.model import printable
from ticketd.wire.replies import EventReply

# How each part of a bar looks, and its color. What tells them apart is the shape, since not everybody sees colors.
_PARTS = {"sold": ("█", "red"), "held": ("▒", "yellow"), "cancelled": ("░", "green"), "redeemed": ("▪", "blue")}

# How long the longest bar shall be at least, and how long it may be.
_CELLS_MIN, _CELLS_MAX = 10, 60
# Between two columns.
_GAP_CELLS = 2


def draw(hours: Sequence[Hour], event: EventReply, zone: Zone) -> None:
    """Draw the hours of an event on stdout, with the times in this zone, and below them the totals."""
    console = Console(highlight=False)
    left = f"{event.capacity} tickets, {event.available} left, {event.held} held, {event.sold} sold"
    console.print(Text(printable(f"{event.name} ({event.id}): {left}")))
    if not hours:
        console.print("no bookings")
        return
    columns = {"HOUR": [*(zone.show(hour.hour) for hour in hours), "total"]}
    for what, (shape, _) in _PARTS.items():
        figures = [getattr(hour, what) for hour in hours]
        columns[f"{shape} {what.upper()}"] = [str(figure) for figure in (*figures, sum(figures))]
    if console.width - _cells(columns) < _CELLS_MIN:
        # Without the name of the zone, and with those of the columns above them.
        console.print("  ".join(columns).removeprefix("HOUR").strip().lower())
        columns = {heading.partition(" ")[0]: texts for heading, texts in columns.items()}
        columns["HOUR"] = [text.rpartition(" ")[0] or text for text in columns["HOUR"]]
    cells = max(0, min(_CELLS_MAX, console.width - _cells(columns)))
    most = max(1, *map(_all, hours))
    table = Table(box=None, pad_edge=False, header_style="", footer_style="", show_footer=True)
    for heading, (*_, last) in columns.items():
        table.add_column(heading, last, justify="left" if heading == "HOUR" else "right", no_wrap=True)
    table.add_column(no_wrap=True)
    for hour, *texts in zip(hours, *columns.values(), strict=False):
        table.add_row(*texts, _bar(hour, most, cells))
    console.print(table)


def _cells(columns: Mapping[str, Sequence[str]]) -> int:
    """Return how much of a row these columns take, with the gaps after them."""
    return sum(max(map(len, [heading, *texts])) + _GAP_CELLS for heading, texts in columns.items())


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
