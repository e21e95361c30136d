"""A committer over each kind of ledger and clients of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime

import pytest

from tests.ledgers import STORAGES, Storage, new_storage
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.commits.reader import Reader
from ticketd.config import Limits
from ticketd.rules.working_set import LedgerRequest
from ticketd.wire.replies import ErrorReply, Reply
from ticketd.wire.requests import Create, Request

Opened = Callable[..., AbstractAsyncContextManager[Committer]]

# PostgreSQL may take several commits at once, each for other events, and reads beside them.
on_this_disk = pytest.mark.parametrize("storage", ["sqlite"], indirect=True)


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest) -> Storage:
    """An empty ledger of each kind."""
    return new_storage(request)


@pytest.fixture
def opened(storage: Storage) -> Opened:
    @asynccontextmanager
    async def opened(limits: Limits | None = None) -> AsyncIterator[Committer]:
        ledger = await storage.open()
        committer = Committer(ledger, Catalogue(await ledger.events()), limits or Limits())
        running = asyncio.create_task(committer.run())
        for event in ("hot", "quiet"):
            await committer.ask([Create(event, datetime(2027, 3, 11, tzinfo=UTC), 100_000, event)], "test")
        try:
            yield committer
        finally:
            committer.close()
            await asyncio.wait([running])
            if running.exception() is None:
                await ledger.close()

    return opened


class Buyer:
    """Somebody who submits requests once. ``replies`` is set when they are answered."""

    def __init__(self, peer: str, actor: str | None = None) -> None:
        self.peer = peer
        self.actor = actor
        self.replies: asyncio.Future[Sequence[Reply]] = asyncio.get_running_loop().create_future()

    def deliver(self, replies: Sequence[Reply]) -> None:
        # Only once: a future refuses a second result.
        self.replies.set_result(replies)


def asked(
    committer: Committer,
    *requests: LedgerRequest,
    peer: str = "test",
    actor: str | None = None,
    rows: int = 0,
) -> asyncio.Future[Sequence[Reply]]:
    """Submit requests now, to be decided together. ``rows`` estimates their cost; by default, each costs 1."""
    buyer = Buyer(peer, actor)
    committer.submit(buyer, requests, rows or len(requests))
    return buyer.replies


async def ask(committer: Committer, request: LedgerRequest) -> Reply:
    """Submit a request, and return its reply."""
    [reply] = await asked(committer, request)
    return reply


class Visitor:
    """Somebody who reads. Asks for the rest as often as needed; ``slices`` are the replies that came together."""

    peer = "visitor"
    actor: str | None = None

    def __init__(self, reader: Reader, requests: Sequence[Request]) -> None:
        self._reader = reader
        self._rest = requests
        self.slices: list[Sequence[Reply]] = []
        self.replies: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        reader.submit(self, requests)

    def deliver(self, replies: Sequence[Reply]) -> None:
        assert replies, "each slice brings something"
        self.slices.append(replies)
        self._rest = self._rest[len(replies) :]
        if self._rest:
            self._reader.submit(self, self._rest)
        else:
            self.replies.set_result([reply for replies in self.slices for reply in replies])


async def read(committer: Committer, *requests: Request) -> list[Reply]:
    """Return what the requests read."""
    return await Visitor(committer.reader, requests).replies


def code(reply: Reply) -> str | None:
    return reply.code if isinstance(reply, ErrorReply) else None


def codes(replies: Sequence[Reply]) -> list[str | None]:
    return [code(reply) for reply in replies]
