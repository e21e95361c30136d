"""``watch``: shows events as they change, through lost connections: a live table on a terminal, JSON lines in a pipe.

Owns when it begins again and when it ends. How it looks is that of ``board``.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Annotated, NamedTuple, Protocol

from msgspec import UNSET, Meta

from ticketctl.client import CannotConnectError, Client
from ticketctl.failures import NotTicketdError
from ticketctl.interrupt import Interrupter, OverError, ReaderGoneError
from ticketctl.output import BUSY, CANNOT_CONNECT, DONE, INTERRUPTED, USAGE, Output, status_of
from ticketctl.own import OwnCommand, OwnField
from ticketctl.protocol import AGAIN_AFTER_SECONDS
from ticketctl.render import render
from ticketctl.times import Zone
from ticketd.errors import TicketError
from ticketd.model import Id, printable
from ticketd.wire.replies import ErrorReply, EventReply, PongReply, Reply, error_reply
from ticketd.wire.requests import Request, Watch

# Terminals whose cursor cannot be moved.
_DUMB = ("", "dumb", "unknown")

OnlyEvent = Annotated[Id, Meta(description="only this event", extra={"positional": True, "completes": "events"})]
Changes = Annotated[
    int, Meta(ge=1, le=1_000_000, description="end after this many changes; the first state of an event is not one")
]
Seconds = Annotated[float, Meta(gt=0, le=31_536_000, description="end after this time")]


class Ends(NamedTuple):
    """When a watch ends by itself: after so many changes, or seconds."""

    changes: int | None = None
    seconds: float | None = None


class View(Protocol):
    """Shows what happens."""

    def show(self, reply: Reply) -> None:
        """Show an event. Raises BrokenPipeError if nobody reads it."""

    def say(self, text: str) -> None:
        """Show what happened to the connection."""


def run_watch(arguments: Sequence[str], client: Client, output: Output) -> int:
    """Run ``watch`` and return the exit status. Raises BrokenPipeError if its reader has gone."""
    try:
        given = WATCH.parse(arguments)
    except TicketError as error:
        output.error(error_reply(error))
        return USAGE
    # It is checked that they are numbers.
    changes = int(float(given["count"])) if "count" in given else None
    seconds = float(given["seconds"]) if "seconds" in given else None
    return follow(Watch(given.get("event", UNSET)), client, output, Ends(changes, seconds))


WATCH = OwnCommand(
    "watch",
    "Follow the events, or one event, as they change.",
    [
        OwnField("event", OnlyEvent, required=False),
        OwnField("count", Changes, required=False),
        OwnField("seconds", Seconds, required=False),
    ],
    run_watch,
)


def follow(request: Request, client: Client, output: Output, ends: Ends = Ends()) -> int:  # noqa: B008
    """Show the replies until Ctrl-C, or until it ends. Return the exit status. Raises as ``run_watch`` does."""
    error: ErrorReply | None = None
    try:
        with Interrupter(ends.seconds) as interrupter, _view(output) as view:
            error = _Watch(request, client, view, ends.changes).run(interrupter)
    except ReaderGoneError:
        raise BrokenPipeError from None
    except OverError:
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except CannotConnectError as failure:
        output.failure("cannot_connect", str(failure))
        return CANNOT_CONNECT
    if error is None:
        return DONE
    output.error(error)
    return status_of(error)


class _Watch:
    def __init__(self, request: Request, client: Client, view: View, changes_left: int | None) -> None:
        self._request = request
        self._client = client
        self._view = view
        self._changes_left = changes_left
        self._known: dict[str, EventReply] = {}
        self._reached = False
        self._lost = False

    def run(self, interrupter: Interrupter) -> ErrorReply | None:
        """Show the replies until there were enough changes, or an error that ends it, which is returned.

        Raises CannotConnectError if the daemon was never there. Later, it is waited for as long as it takes.
        """
        while True:
            answered = False
            try:
                with closing(self._client.stream(self._request)) as replies:
                    while not isinstance(reply := interrupter.wait(lambda: next(replies)), ErrorReply):
                        self._connected()
                        # A pong says that it is there, also if it has no events. Strangers get one too.
                        if isinstance(reply, PongReply):
                            continue
                        answered = True
                        if self._show(reply):
                            return None
                # If the token was taken back, perhaps its file has another one.
                taken_back = answered and reply.unasked and reply.code == "unauthorized"
                if not taken_back and not (self._reached and status_of(reply) == BUSY):
                    return reply
            except NotTicketdError:
                raise
            except CannotConnectError:
                if not self._reached:
                    raise
            if not self._lost:
                self._lost = True
                self._view.say(f"the connection to {self._client.where} is lost; trying again")
            interrupter.wait(lambda: time.sleep(AGAIN_AFTER_SECONDS))

    def _connected(self) -> None:
        self._reached = True
        if self._lost:
            self._lost = False
            self._view.say("connected again")

    def _show(self, reply: Reply) -> bool:
        """Show a reply, unless it is known already. Return whether there were enough changes."""
        if not isinstance(reply, EventReply):
            self._view.show(reply)
            return False
        before = self._known.get(reply.id)
        self._known[reply.id] = reply
        if before != reply:
            self._view.show(reply)
            if before and self._changes_left:
                self._changes_left -= 1
        return self._changes_left == 0


@contextmanager
def _view(output: Output) -> Iterator[View]:
    if output.mode != "table":
        yield _JsonLines(output)
    elif os.environ.get("TERM", "") in _DUMB:
        yield _Lines(output)
    else:
        # Imported here, because it takes longer than most commands.
        from ticketctl.board import live

        with live() as board:
            yield board


class _JsonLines:
    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, reply: Reply) -> None:
        """See View."""
        self._write(render(reply, "json"))

    def say(self, text: str) -> None:
        """See View."""
        self._output.note(text)

    def _write(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class _Lines(_JsonLines):
    """A line for each change, for a terminal on which nothing can be drawn, or a program that reads it aloud."""

    def show(self, reply: Reply) -> None:
        """See View."""
        self._write(_line(reply, self._output.zone) if isinstance(reply, EventReply) else render(reply, "plain"))


def _line(event: EventReply, zone: Zone) -> str:
    _, clock, *_ = zone.show(datetime.now(UTC), seconds=True).split(" ")
    left = f"{event.available} of {event.capacity} available, {event.held} held, {event.sold} sold"
    return printable(f"{clock} {event.id}: {left} ({event.name})")
