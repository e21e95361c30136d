"""Follows a request with many replies, through lost connections. Owns when it is sent again, and when it ends.

How the replies look is the business of a View.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import Protocol

from ticketctl.client import CannotConnectError, Client
from ticketctl.failures import NotTicketdError
from ticketctl.interrupt import Interrupter, OverError, ReaderGoneError
from ticketctl.output import BUSY, CANNOT_CONNECT, DONE, INTERRUPTED, Output, status_of
from ticketctl.protocol import AGAIN_AFTER_SECONDS
from ticketd.wire.replies import BookingReply, ErrorReply, EventReply, PongReply, Reply
from ticketd.wire.requests import Request

Shown = EventReply | BookingReply


class View(Protocol):
    """Shows what happens."""

    def show(self, reply: Reply) -> None:
        """Show an event or a booking. Raises BrokenPipeError if nobody reads it."""

    def say(self, text: str) -> None:
        """Show what happened to the connection."""


class Following:
    """What is followed. It ends after ``changes``, if that is a number, and once a reply is the last: ``is_last``."""

    def __init__(
        self,
        request: Request,
        client: Client,
        output: Output,
        changes: int | None = None,
        is_last: Callable[[Shown], bool] = lambda shown: False,
    ) -> None:
        self._request = request
        self._client = client
        self._output = output
        self._changes_left = changes
        self._is_last = is_last
        self._known: dict[str, Shown] = {}
        self._reached = False
        self._lost = False
        # What was shown last.
        self.last: Shown | None = None

    def run(
        self, viewing: AbstractContextManager[View], seconds: float | None = None, first: Shown | None = None
    ) -> int:
        """Show the replies, the ``first`` of them if there is one already, until Ctrl-C or the end.

        Return the exit status. Raises BrokenPipeError if the reader has gone.
        """
        error: ErrorReply | None = None
        try:
            with Interrupter(seconds) as interrupter, viewing as view:
                # A replayed reply does not say how the booking is now.
                if first and self._show(first, view) and not first.replayed:
                    return DONE
                self._reached = first is not None
                error = self._follow(interrupter, view)
        except ReaderGoneError:
            raise BrokenPipeError from None
        except OverError:
            return DONE
        except KeyboardInterrupt:
            return INTERRUPTED
        except CannotConnectError as failure:
            self._output.failure("cannot_connect", str(failure))
            return CANNOT_CONNECT
        if error is None:
            return DONE
        self._output.error(error)
        return status_of(error)

    def _follow(self, interrupter: Interrupter, view: View) -> ErrorReply | None:
        """Show the replies until the end, or an error that ends it, which is returned.

        Raises CannotConnectError if the daemon was never there. Later, it is waited for as long as it takes.
        """
        while True:
            answered = False
            try:
                with closing(self._client.stream(self._request)) as replies:
                    while not isinstance(reply := interrupter.wait(lambda: next(replies)), ErrorReply):
                        self._connected(view)
                        # A pong says that the daemon is there, even if it has no events. Strangers get one too.
                        if isinstance(reply, PongReply):
                            continue
                        answered = True
                        if self._show(reply, view):
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
                view.say(f"the connection to {self._client.where} is lost; trying again")
            interrupter.wait(lambda: time.sleep(AGAIN_AFTER_SECONDS))

    def _connected(self, view: View) -> None:
        self._reached = True
        if self._lost:
            self._lost = False
            view.say("connected again")

    def _show(self, reply: Reply, view: View) -> bool:
        """Show a reply, unless it is known already. Return whether that was the end."""
        if not isinstance(reply, Shown):
            view.show(reply)
            return False
        before = self._known.get(reply.id)
        self._known[reply.id] = self.last = reply
        if before is None or _differ(before, reply):
            view.show(reply)
            if self._output.seen:
                self._output.seen(reply)
            if before and self._changes_left:
                self._changes_left -= 1
        return self._changes_left == 0 or self._is_last(reply)


def _differ(before: Shown, now: Shown) -> bool:
    if isinstance(before, BookingReply) and isinstance(now, BookingReply):
        # A first reply says less about a booking than the ones that follow.
        return (before.state, before.expires, before.position) != (now.state, now.expires, now.position)
    return before != now
