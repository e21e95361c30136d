"""``watch``: the events as they change; a live table on a terminal, JSON lines in a pipe."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ticketctl.client import CannotConnectError, Client
from ticketctl.commands import CANNOT_CONNECT, INTERRUPTED, Output, status_of
from ticketctl.render import render
from ticketd.model import printable
from ticketd.protocol import ErrorReply, EventReply, Reply, Watch

# For how long after its last change an event counts as one that moves.
MOVING_SECONDS = 3.0


def run_watch(request: Watch, client: Client, output: Output) -> int:
    """Show changes until Ctrl-C, or until no more come; return the exit status."""
    try:
        with closing(client.stream(request)) as replies, _shown(output) as show:
            while not isinstance(reply := next(replies), ErrorReply):
                show(reply)
    except KeyboardInterrupt:
        return INTERRUPTED
    except CannotConnectError as error:
        output.failure("cannot_connect", str(error))
        return CANNOT_CONNECT
    output.error(reply)
    # The daemon said goodbye; there is nothing to try again before another one runs.
    return CANNOT_CONNECT if reply.code == "shutting_down" else status_of(reply)


@contextmanager
def _shown(output: Output) -> Iterator[Callable[[Reply], None]]:
    """Yield what shows one change after the other."""
    if output.mode != "table":
        yield _write
        return
    board = _Board()
    with Live(get_renderable=lambda: board.table(*shutil.get_terminal_size()), refresh_per_second=10):
        yield board.note


def _write(reply: Reply) -> None:
    sys.stdout.write(render(reply, "json") + "\n")
    sys.stdout.flush()


class _Board:
    """The events, what began to move last on top; what goes on moving keeps its place, so that it can be read."""

    def __init__(self) -> None:
        self._events: dict[str, EventReply] = {}
        self._order: list[str] = []
        self._changed_at: dict[str, float] = {}

    def note(self, reply: Reply) -> None:
        """Take in an event: the first time as it was found, later as it has changed."""
        if not isinstance(reply, EventReply):
            return
        known = reply.id in self._events
        self._events[reply.id] = reply
        if not known:
            self._order.append(reply.id)
            return
        if not self._moves(reply.id):
            self._order.remove(reply.id)
            self._order.insert(0, reply.id)
        self._changed_at[reply.id] = time.monotonic()

    def table(self, width: int, height: int) -> Table | Group:
        """Return the events that fit on the terminal. Runs in the thread that draws."""
        if not self._order:
            return Group()
        # Two lines are left for the head and the count of the others, one for the cursor.
        most = max(1, height - 3)
        table = Table(box=None, pad_edge=False, header_style="", caption_style="", caption_justify="left")
        # Where it is narrow, ids and names are cut.
        table.add_column("ID")
        table.add_column("NAME")
        table.add_column(no_wrap=True)
        for heading in ("░ AVAILABLE", "▒ HELD", "█ SOLD", "CAPACITY"):
            table.add_column(heading, justify="right", no_wrap=True)
        for event in [self._events[event_id] for event_id in self._order[:most]]:
            id_, name = (Text(printable(text), no_wrap=True, overflow="ellipsis") for text in (event.id, event.name))
            figures = (event.available, event.held, event.sold, event.capacity)
            style = "bold" if self._moves(event.id) else ""
            table.add_row(id_, name, _bar(event, width // 5), *map(str, figures), style=style)
        if (more := len(self._order) - most) > 0:
            table.caption = f"and {more} more"
        return table

    def _moves(self, event_id: str) -> bool:
        return time.monotonic() - self._changed_at.get(event_id, -MOVING_SECONDS) < MOVING_SECONDS


def _bar(event: EventReply, cells: int) -> Text:
    # Rounded up, so that the last ticket is still to be seen; and of the same length whatever a server sends.
    left, held = (
        min(cells, max(0, -(-cells * tickets // max(1, event.capacity)))) for tickets in (event.available, event.held)
    )
    held = min(held, cells - left)
    sold = cells - left - held
    return Text.assemble(("█" * sold, "red"), ("▒" * held, "yellow"), ("░" * left, "green"), no_wrap=True)
