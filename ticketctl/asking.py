"""Sends one request, and shows an error if it is refused or gets no reply."""

from ticketctl import pages
from ticketctl.client import CannotConnectError, Client, OutcomeUnknownError
from ticketctl.output import CANNOT_CONNECT, Output, settling, status_of, typed, unknown
from ticketctl.patience import ask_patiently
from ticketd.wire.replies import ErrorReply, Reply
from ticketd.wire.requests import Request


def ask(request: Request, client: Client, output: Output) -> Reply | int:
    """Return the reply. If it is an error, or there is none, show that and return the exit status."""
    try:
        # A script goes on once the daemon is back.
        seconds = 0.0 if output.line is None else client.timeout
        reply = ask_patiently(lambda: pages.ask(client, request), seconds)
    except CannotConnectError as error:
        output.failure("cannot_connect", str(error))
        return CANNOT_CONNECT
    except OutcomeUnknownError as error:
        return unknown(error, settling(request), client, output)
    if not isinstance(reply, ErrorReply):
        return reply
    if reply.code == "outcome_unknown":
        output.failure(reply.code, f"{reply.message}:", typed(settling(request), client, output))
    else:
        output.error(reply)
    return status_of(reply)
