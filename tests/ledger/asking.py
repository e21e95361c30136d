"""Asks a ledger for something, and says in short what came of it."""

from collections.abc import Sequence

from tests.ledger.facts import Row, on_the_wire
from tests.ledgers import transact
from ticketd.ledger.base import Ledger
from ticketd.ledger.check import check
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import Reply

BATCHES_MAX = 10


async def told(ledger: Ledger, *requests: LedgerRequest) -> list[Row]:
    """Return the replies to requests of one batch."""
    return [on_the_wire(reply) for reply in (await transact(ledger, requests)).replies]


async def outcome(ledger: Ledger, *requests: LedgerRequest) -> list[str]:
    """Return ``in_short`` of the replies to requests of one batch."""
    return in_short((await transact(ledger, requests)).replies)


def in_short(replies: Sequence[Reply]) -> list[str]:
    """Return for each reply the code of an error, the state of a booking, or the kind of the reply."""
    rows = map(on_the_wire, replies)
    return [reply.get("code") or reply.get("state") or reply["reply"] for reply in rows]


async def serve_lines(ledger: Ledger) -> None:
    """Let a ledger offer all that it can to those who wait, without any request."""
    for _ in range(BATCHES_MAX):
        if not (await transact(ledger, [])).changed:
            return
    raise AssertionError("it goes on without end")


async def faults_of(ledger: str) -> list[str]:
    """Return what ``ticketd check`` finds wrong in a ledger, or else its last line."""
    said: list[str] = []
    await check(ledger, said.append)
    return [line for line in said if line.startswith("wrong")] or said[-1:]
