"""``wait``: joins the line for tickets, shows the place in it, and rings when the tickets are held."""

import sys

from ticketctl import booking_view
from ticketctl.asking import ask
from ticketctl.client import Client
from ticketctl.following import Following, Shown
from ticketctl.output import DONE, INTERRUPTED, Output, status_of, typed
from ticketctl.times import rfc3339
from ticketd.errors import Code
from ticketd.wire import words
from ticketd.wire.replies import BookingReply, ErrorReply
from ticketd.wire.requests import Confirm, Release, Wait, Watch

BELL = "\a"

# Why somebody who comes back to a booking gets no tickets.
_OVER: dict[str, tuple[Code, str]] = {
    "released": ("already_released", "has left the line, or its tickets were given back"),
    "expired": ("hold_expired", "was held, and was not confirmed in time"),
    "cancelled": ("already_cancelled", "was confirmed, and is cancelled"),
}


def run_wait(request: Wait, client: Client, output: Output) -> int:
    """Wait until the tickets are held, or Ctrl-C, which leaves the booking in the line. Return the exit status.

    Raises BrokenPipeError if the reader has gone.
    """
    reply = ask(request, client, output)
    if isinstance(reply, int):
        return reply
    assert isinstance(reply, BookingReply)
    # It may take hours, over a connection of its own.
    client.close()
    if reply.state == "waiting" and output.mode == "table":
        # If this terminal is lost, whoever has the id can come back.
        output.note(f"waiting as booking {reply.id}; Ctrl-C keeps its place in line")
    following = Following(Watch(booking=reply.id), client, output, is_last=_is_over)
    status = following.run(booking_view.viewing(output), first=reply)
    if status == INTERRUPTED:
        _say_how_to_come_back(request, client, output)
    return status if status != DONE else _end(following.last, client, output)


def _is_over(shown: Shown) -> bool:
    return isinstance(shown, BookingReply) and shown.state != "waiting"


def _end(shown: Shown | None, client: Client, output: Output) -> int:
    """Say what became of the booking, and what to do now. Return the exit status."""
    assert isinstance(shown, BookingReply)
    if shown.state == "held":
        if output.mode == "table" and not output.quiet:
            sys.stdout.write(BELL)
            sys.stdout.flush()
        until = ""
        if shown.expires:
            time = output.zone.show(shown.expires, seconds=True) if output.mode == "table" else rfc3339(shown.expires)
            until = f" until {time}"
        confirm = typed(words.unparse(Confirm(shown.id)), client, output)
        output.note(f"the tickets are held{until}; this buys them:\n  {confirm}")
    elif shown.state in _OVER:
        code, why = _OVER[shown.state]
        error = ErrorReply(code, f"booking {shown.id} {why}; wait again, with a new id")
        output.error(error)
        return status_of(error)
    return DONE


def _say_how_to_come_back(request: Wait, client: Client, output: Output) -> None:
    again = typed(words.unparse(request), client, output)
    leave = typed(words.unparse(Release(str(request.booking))), client, output)
    output.note(f"booking {request.booking} keeps its place in line; to come back:\n  {again}\nto leave:\n  {leave}")
