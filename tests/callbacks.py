"""Asks a ledger, whose contract is callbacks, and waits for the result."""

import asyncio

from ticketd.ledger.base import Answers, Ledger
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import Reply
from ticketd.wire.requests import Request


class Outcome:
    """What a ledger says later. Call it as ``done``, and await ``told``."""

    def __init__(self) -> None:
        self._told: asyncio.Future[Answers | Exception] = asyncio.get_running_loop().create_future()

    def __call__(self, result: Answers | Exception) -> None:
        # It may be called once only: a future refuses a second result.
        self._told.set_result(result)

    @property
    def came(self) -> bool:
        """Whether it has been told."""
        return self._told.done()

    async def told(self) -> Answers:
        """Return the result, or raise what came instead."""
        result = await self._told
        if isinstance(result, Exception):
            raise result
        return result


async def commit(ledger: Ledger, *requests: LedgerRequest) -> Answers:
    """Return the result of a batch, or raise what came instead."""
    outcome = Outcome()
    result = ledger.transact([*requests], outcome)
    if result is None:
        return await outcome.told()
    assert not result.changed, "what is changed is told when it is durable"
    assert not outcome.came, "it is told once"
    return result


def read(ledger: Ledger, *requests: Request) -> list[Reply]:
    """Return the replies of a ledger that reads at once, slice by slice."""
    replies: list[Reply] = []
    while rest := requests[len(replies) :]:
        assert ledger.can_read
        answers = ledger.read(rest, _never)
        assert answers
        assert answers.replies
        assert not answers.changed
        replies += answers.replies
    return replies


def _never(result: Answers | Exception) -> None:
    raise AssertionError(f"what is returned at once is not told again: {result}")
