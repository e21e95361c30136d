"""Waits for a daemon that is gone, such as one that is started again. Knows no commands."""

import time
from collections.abc import Callable

from ticketctl.client import CannotConnectError, Client
from ticketctl.protocol import AGAIN_AFTER_SECONDS
from ticketd.wire.replies import ErrorReply, Reply
from ticketd.wire.requests import Ping


def ask_patiently(ask: Callable[[], Reply], seconds: float) -> Reply:
    """Ask, and ask again while the daemon is gone, until this much time is over. Return the last reply.

    ``ask`` raises CannotConnectError if no reply came and nothing was changed. So does this if that stays so.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            reply = ask()
        except CannotConnectError:
            if _is_over(deadline):
                raise
        else:
            if not is_gone(reply) or _is_over(deadline):
                return reply
        time.sleep(AGAIN_AFTER_SECONDS)


def _is_over(deadline: float) -> bool:
    return time.monotonic() + AGAIN_AFTER_SECONDS > deadline


def is_gone(reply: Reply) -> bool:
    """Whether a reply says that the daemon will be gone at once, so that nothing was done."""
    return isinstance(reply, ErrorReply) and reply.code == "shutting_down"


def wait_for(client: Client, seconds: float) -> None:
    """Wait until the daemon answers. Raises CannotConnectError if it does not within this time."""
    try:
        reply = ask_patiently(lambda: client.ask(Ping()), seconds)
        why = reply.message if isinstance(reply, ErrorReply) and is_gone(reply) else None
    except CannotConnectError as error:
        why = str(error)
    if why:
        raise CannotConnectError(f"no answer within {seconds:g} s: {why}")
