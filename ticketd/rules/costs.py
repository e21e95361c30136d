"""Estimates what requests cost, in rows of the ledger and in tickets listed by replies. Pure."""

from typing import Any

from ticketd.model import ticket_parts
from ticketd.rules.memory import Memory
from ticketd.wire.requests import Book, Confirm, Redeem

# The assumed cost of loading a booking, in rows: most have a few tickets, some a thousand. It limits how many large
# ones one commit loads.
ROWS_OF_A_BOOKING = 16
# The same for ``cancel`` and ``reissue``, which also write the tickets again.
ROWS_OF_A_CANCELLATION = 64
# The same for redeeming a whole booking, which writes a row for each ticket.
ROWS_OF_A_WHOLE_BOOKING = 512
# How many tickets are assumed in replies that may list a thousand: that to a ``confirm`` of a booking that is no active
# hold, since it may have been confirmed before; and those that list them twice, to a cancellation, or when a whole
# booking is redeemed.
TICKETS_OF_A_REPLAY = 128
TICKETS_LISTED_TWICE = 256


def of_one_row(_memory: Memory, _request: Any) -> int:
    """One row: the request reads or writes hardly anything."""
    return 1


def of_quantity(_memory: Memory, request: Book) -> int:
    """A row for each ticket."""
    return request.quantity


def of_booking(_memory: Memory, _request: Any) -> int:
    """The rows of a booking that is loaded."""
    return ROWS_OF_A_BOOKING


def of_confirm(memory: Memory, request: Confirm) -> int:
    """A row for each ticket of an active hold, since it is made now."""
    held = memory.held(request.booking)
    return held[1] if held else ROWS_OF_A_BOOKING


def tickets_of_confirm(memory: Memory, request: Confirm) -> int:
    """The tickets that the reply to a ``confirm`` may list besides those that it makes."""
    return 0 if memory.held(request.booking) else TICKETS_OF_A_REPLAY


def of_cancel(_memory: Memory, _request: Any) -> int:
    """The rows of a booking whose tickets are written again."""
    return ROWS_OF_A_CANCELLATION


def tickets_of_cancel(_memory: Memory, _request: Any) -> int:
    """The tickets that the reply to a ``cancel`` may list."""
    return TICKETS_LISTED_TWICE


def of_redeem(_memory: Memory, request: Redeem) -> int:
    """The rows of a ticket or of a whole booking."""
    # The id of a booking may look like that of a ticket: ``door`` limits how many of those are redeemed at once.
    return ROWS_OF_A_BOOKING if ticket_parts(request.ticket)[0] else ROWS_OF_A_WHOLE_BOOKING


def tickets_of_redeem(_memory: Memory, request: Redeem) -> int:
    """The tickets that the reply to a ``redeem`` may list."""
    return 0 if ticket_parts(request.ticket)[0] else TICKETS_LISTED_TWICE
