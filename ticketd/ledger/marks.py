"""The mark of a ledger that is the source or the target of a move. A ledger with a mark must not be served.

A move marks its target ``arriving_from`` the source when it writes it, then its source ``moved_to`` the target, and
only then removes the mark of the target. So at any time at most one of the two can be served. Both marks carry the id
of the move, by which a move that was interrupted after it marked the source recognizes its target.
"""

import shlex
from typing import NamedTuple

# The columns of the table ``ledger``, the same in every ledger.
MARK_COLUMNS = "move, arriving_from, moved_to"


class Mark(NamedTuple):
    """The id of the move, and the address of the other ledger: of the source or of the target."""

    move: str | None = None
    arriving_from: str | None = None
    moved_to: str | None = None


NO_MARK = Mark()


def move_command(source: str, target: str) -> str:
    """Return the shell command that moves a sale."""
    return shlex.join(["ticketd", "move", source, target])


def refusal(mark: Mark, address: str) -> str | None:
    """Return why the ledger at ``address`` must not be served and what to do, or None if it may be."""
    if mark.moved_to:
        return (
            f"the sale of {address} was moved to {mark.moved_to}; start ticketd with --ledger {mark.moved_to}. Should"
            f" that one say that the move was cut short, finish it: {move_command(address, mark.moved_to)}"
        )
    if mark.arriving_from:
        return (
            f"the move of a sale to {address} was cut short; finish it: {move_command(mark.arriving_from, address)}."
            " Until then it does not sell"
        )
    return None
