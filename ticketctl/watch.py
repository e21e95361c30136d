"""Shows the replies to a request that streams: a live table on a terminal, JSON lines in a pipe."""

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ticketctl.client import CannotConnectError, Client
from ticketctl.output import CANNOT_CONNECT, INTERRUPTED, Output, status_of
from ticketctl.render import render
from ticketctl.sale import phase, sale
from ticketd.model import printable
from ticketd.wire.replies import ErrorReply, EventReply, Reply
from ticketd.wire.requests import Request

# An event counts as active for so long after a change.
ACTIVE_SECONDS = 3.0
DRAWINGS_PER_SECOND = 10

_FIGURES = ("░ AVAILABLE", "▒ HELD", "█ SOLD", "CAPACITY")
# On a narrow terminal ids and names are cut, but not below this, and bars are left out rather than shorter than this.
_ID_CELLS_MIN, _NAME_CELLS_MIN, _BAR_CELLS_MIN = 6, 10, 6


def run_watch(request: Request, client: Client, output: Output) -> int:
    """Show the replies until Ctrl-C, or until no more come. Return the exit status."""
    try:
        with _shown(output) as show:
            reply = _follow(request, client, show)
    except KeyboardInterrupt:
        return INTERRUPTED
    except CannotConnectError as error:
        output.failure("cannot_connect", str(error))
        return CANNOT_CONNECT
    output.error(reply)
    # "Busy" would tell a script to try again at once, but this daemon is ending.
    return CANNOT_CONNECT if reply.code == "shutting_down" else status_of(reply)


def _follow(request: Request, client: Client, show: Callable[[Reply], None]) -> ErrorReply:
    """Show the replies, and return the error that ends them.

    If the token was taken back, perhaps its file has another one, with which the state and the changes come again.
    """
    while True:
        welcome = False
        with closing(client.stream(request)) as replies:
            while not isinstance(reply := next(replies), ErrorReply):
                welcome = True
                show(reply)
        if not (welcome and reply.code == "unauthorized"):
            return reply


@contextmanager
def _shown(output: Output) -> Iterator[Callable[[Reply], None]]:
    """Yield the function that shows a reply."""
    if output.mode != "table":
        yield _write_json
        return
    board = _Board()
    with Live(
        get_renderable=lambda: board.table(*shutil.get_terminal_size(), datetime.now(UTC)),
        refresh_per_second=DRAWINGS_PER_SECOND,
    ) as live:

        def show(reply: Reply) -> None:
            if isinstance(reply, EventReply):
                board.update(reply)
            else:
                live.console.print(Text(render(reply, "table")))

        yield show


def _write_json(reply: Reply) -> None:
    sys.stdout.write(render(reply, "json") + "\n")
    sys.stdout.flush()


class _Board:
    """The table of events. An event that becomes active goes to the top; while it is active, it keeps its row."""

    def __init__(self) -> None:
        self._events: dict[str, EventReply] = {}
        self._order: list[str] = []
        self._changed_at: dict[str, float] = {}

    def update(self, event: EventReply) -> None:
        """Take in an event. The first reply for an event is its state when the watch began, not a change."""
        known = event.id in self._events
        self._events[event.id] = event
        if not known:
            self._order.append(event.id)
            return
        if not self._is_active(event.id):
            self._order.remove(event.id)
            self._order.insert(0, event.id)
        self._changed_at[event.id] = time.monotonic()

    def table(self, width: int, height: int, now: datetime) -> Table | Group:
        """Return the events that fit on a terminal of this many columns and rows. Runs in the thread that draws.

        ``now`` is for the countdown of their sales.
        """
        if not self._order:
            return Group()
        # Two rows are for the head and the count of the other events, one is for the cursor.
        fitting = max(1, height - 3)
        table = Table(box=None, pad_edge=False, header_style="", caption_style="", caption_justify="left")
        events = [self._events[event_id] for event_id in self._order[:fitting]]
        sales, cells = _fitted(events, width, now)
        others = [*map(cell_len, _FIGURES), *filter(None, (cells, _widest(sales)))]
        # Between two columns are two cells.
        room = width - sum(others) - 2 * (len(others) + 1)
        id_cells = min(_widest(event.id for event in events), max(_ID_CELLS_MIN, room // 3))
        name_cells = min(_widest(event.name for event in events), max(_NAME_CELLS_MIN, room - id_cells))
        table.add_column("ID", width=id_cells)
        table.add_column("NAME", width=max(len("NAME"), name_cells))
        if cells:
            table.add_column(no_wrap=True)
        for heading in _FIGURES:
            table.add_column(heading, justify="right", no_wrap=True)
        if any(sales):
            table.add_column("SALE", no_wrap=True)
        for event, its_sale in zip(events, sales, strict=True):
            id_, name = (Text(printable(text), no_wrap=True, overflow="ellipsis") for text in (event.id, event.name))
            bar = [_bar(event, cells)] if cells else []
            figures = (event.available, event.held, event.sold, event.capacity)
            style = "bold" if self._is_active(event.id) else ""
            table.add_row(id_, name, *bar, *map(str, figures), *([its_sale] if any(sales) else []), style=style)
        if (more := len(self._order) - fitting) > 0:
            table.caption = f"and {more} more"
        return table

    def _is_active(self, event_id: str) -> bool:
        return time.monotonic() - self._changed_at.get(event_id, -ACTIVE_SECONDS) < ACTIVE_SECONDS


def _fitted(events: Sequence[EventReply], width: int, now: datetime) -> tuple[Sequence[str], int]:
    """Return what to say of each sale, and how long the bars may be, or 0 for no bars, on a terminal of this width.

    If it is narrow, the limits per buyer are left out first, then the bars.
    """
    names = min(_ID_CELLS_MIN, _widest(event.id for event in events)) + min(
        _NAME_CELLS_MIN, _widest(event.name for event in events)
    )
    for said in (sale, phase):
        sales = [said(event, now) for event in events]
        others = [*map(cell_len, _FIGURES), *filter(None, [_widest(sales)])]
        cells = min(width // 5, width - names - sum(others) - 2 * (len(others) + 2))
        if cells >= _BAR_CELLS_MIN:
            return sales, cells
    return sales, 0


def _widest(texts: Iterable[str]) -> int:
    """Return how many cells the longest of these texts takes."""
    return max(cell_len(printable(text)) for text in texts)


def _bar(event: EventReply, cells: int) -> Text:
    """Return the shares of sold, held and available tickets as a bar of this many cells, whatever a server sends."""
    # Rounded up, so that the last ticket can be seen.
    available, held = (
        min(cells, max(0, -(-cells * tickets // max(1, event.capacity)))) for tickets in (event.available, event.held)
    )
    held = min(held, cells - available)
    sold = cells - available - held
    return Text.assemble(("█" * sold, "red"), ("▒" * held, "yellow"), ("░" * available, "green"), no_wrap=True)
