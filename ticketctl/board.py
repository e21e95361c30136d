"""The live table of events on a terminal."""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ticketctl.columns import GAP_CELLS, Step, fit
from ticketctl.render import render
from ticketctl.sale import phase
from ticketd.model import printable
from ticketd.wire.replies import EventReply, Reply

# An event counts as active for so long after a change.
ACTIVE_SECONDS = 3.0
DRAWINGS_PER_SECOND = 10

_HEADINGS = {
    "id": "ID",
    "name": "NAME",
    "bar": "",
    "available": "░ AVAILABLE",
    "held": "▒ HELD",
    "sold": "█ SOLD",
    "capacity": "CAPACITY",
    "waiting": "WAITING",
    "sale": "SALE",
    "per_buyer": "PER BUYER",
}
_FIGURES = ("available", "held", "sold", "capacity", "waiting", "per_buyer")
# Columns that are shown if an event has something there.
_IF_ANY = ("waiting", "sale", "per_buyer")
# How a table becomes narrower. Ids are whole for as long as they fit, since people type them.
_STEPS: Sequence[Step] = (
    *(("bar", 6), ("name", 32), ("bar", 0), ("per_buyer", 0), ("capacity", 0), ("name", 20), ("sold", 0), ("held", 0)),
    *(("name", 12), ("sale", 0), ("waiting", 0), ("name", 6), ("name", 0), ("available", 0)),
)


@contextmanager
def live() -> Iterator["Board"]:
    """Yield a board that is drawn on the whole terminal. In the end, it is left below what stood there before."""
    console = Console(highlight=False)
    board = Board()
    # On a screen of its own, nothing is drawn twice, whatever is typed meanwhile, and however its size changes.
    drawing = Live(get_renderable=board.drawn, console=console, screen=True, refresh_per_second=DRAWINGS_PER_SECOND)
    try:
        with drawing:
            yield board
    finally:
        console.print(board.drawn(), end="")


class Board:
    """The table of events. An event that becomes active goes to the top; while it is active, it keeps its row."""

    def __init__(self) -> None:
        self._events: dict[str, EventReply] = {}
        self._order: list[str] = []
        self._changed_at: dict[str, float] = {}
        self._said = ""

    def show(self, reply: Reply) -> None:
        """Take in an event. The first reply for an event is its state when the watch began, not a change."""
        if not isinstance(reply, EventReply):
            self.say(render(reply, "plain"))
            return
        known = reply.id in self._events
        self._events[reply.id] = reply
        if not known:
            self._order.append(reply.id)
            return
        if not self._is_active(reply.id):
            self._order.remove(reply.id)
            self._order.insert(0, reply.id)
        self._changed_at[reply.id] = time.monotonic()

    def say(self, text: str) -> None:
        """Show a text below the table."""
        self._said = printable(text)

    def drawn(self) -> Text:
        """Return what fits on the terminal now. Runs in the thread that draws."""
        width, height = shutil.get_terminal_size()
        return self.lines(width, height, datetime.now(UTC))

    def lines(self, width: int, height: int, now: datetime) -> Text:
        """Return the events that fit on a terminal of this many columns and rows. ``now`` is for their countdowns."""
        # One row each is for the head, for the count of the other events, for what is said, and for the cursor.
        fitting = max(1, height - 4)
        events = [self._events[event_id] for event_id in self._order[:fitting]]
        rows = self._table(events, width, now) if events else []
        if (more := len(self._order) - fitting) > 0:
            rows.append(Text(f"and {more} more"))
        if self._said:
            said = Text(self._said)
            said.truncate(width, overflow="ellipsis")
            rows.append(said)
        return Text("", no_wrap=True, overflow="crop").join([row.append("\n") for row in rows])

    def _table(self, events: Sequence[EventReply], width: int, now: datetime) -> list[Text]:
        cells = {name: [_cell(event, name, now) for event in events] for name in _HEADINGS if name != "bar"}
        widths = {
            name: max(cell_len(heading), _widest(cells.get(name, ()))) if name != "bar" else width // 5
            for name, heading in _HEADINGS.items()
            if name not in _IF_ANY or any(cells[name])
        }
        fitted = fit(widths, _STEPS, width)
        rows = [_row(fitted, {name: Text(heading) for name, heading in _HEADINGS.items()})]
        for at, event in enumerate(events):
            texts = {name: Text(cells[name][at]) for name in cells} | {"bar": _bar(event, fitted.get("bar", 0))}
            rows.append(_row(fitted, texts))
            rows[-1].stylize("bold" if self._is_active(event.id) else "")
        return rows

    def _is_active(self, event_id: str) -> bool:
        return time.monotonic() - self._changed_at.get(event_id, -ACTIVE_SECONDS) < ACTIVE_SECONDS


def _cell(event: EventReply, name: str, now: datetime) -> str:
    value = phase(event, now) if name == "sale" else getattr(event, name)
    return "" if value is None or (name == "waiting" and not value) else printable(str(value))


def _widest(texts: Iterable[str]) -> int:
    """Return how many cells the longest of these texts takes."""
    return max(map(cell_len, texts), default=0)


def _row(widths: dict[str, int], texts: dict[str, Text]) -> Text:
    row = Text(no_wrap=True, overflow="crop")
    for name, width in widths.items():
        text = texts[name]
        text.truncate(width, overflow="ellipsis")
        text.align("right" if name in _FIGURES else "left", width)
        row.append(" " * GAP_CELLS if row else "").append_text(text)
    row.rstrip()
    return row


def _bar(event: EventReply, cells: int) -> Text:
    """Return the shares of sold, held and available tickets as a bar of this many cells, whatever a server sends."""
    # Rounded up, so that the last ticket can be seen.
    available, held = (
        min(cells, max(0, -(-cells * tickets // max(1, event.capacity)))) for tickets in (event.available, event.held)
    )
    held = min(held, cells - available)
    sold = cells - available - held
    return Text.assemble(("█" * sold, "red"), ("▒" * held, "yellow"), ("░" * available, "green"), no_wrap=True)
