"""Holds run out exactly when they said they would, whoever asks and whether or not anybody does, in any ledger."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import SECONDS_MAX
from tests.daemon import REPLY_SECONDS_MAX, running, until, write_events
from tests.faketime import Clock
from tests.ledgers import STORAGES, Storage, new_storage
from ticketd.commits import expiry
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.config import Limits
from ticketd.model import Event
from ticketd.rules.working_set import LedgerRequest
from ticketd.serving.listening import bind, resolve
from ticketd.serving.server import Server
from ticketd.serving.service import Service
from ticketd.wire.replies import BookingReply, BookingsReply, ChangeFacts, ErrorReply, EventReply, Reply
from ticketd.wire.requests import Book, Bookings, Confirm, Create, Hold, Release, Request, Show

CAPACITY = 100_000
LAST_MOMENT = 0.001


class Reading:
    """A client that reads."""

    def __init__(self, replies: asyncio.Future[Sequence[Reply]]) -> None:
        self.peer = "reader"
        self.actor: str | None = None
        self.replies = replies

    def deliver(self, replies: Sequence[Reply]) -> None:
        self.replies.set_result(replies)


class Shop:
    """A committer, its catalogue and its clock, which the tests move."""

    def __init__(self, committer: Committer, catalogue: Catalogue, clock: Clock) -> None:
        self.committer = committer
        self.catalogue = catalogue
        self.clock = clock

    async def ask(self, *requests: LedgerRequest) -> Sequence[Reply]:
        """Have requests decided together."""
        return await self.committer.ask(requests, "test")

    async def read(self, *requests: Request) -> list[Reply]:
        """Read as a session does: once no hold is due."""
        if self.committer.expiry.is_due():
            await self.committer.expiry.end()
        replies: list[Reply] = []
        while len(replies) < len(requests):
            reading = Reading(asyncio.get_running_loop().create_future())
            self.committer.reader.submit(reading, requests[len(replies) :])
            replies += await reading.replies
        return replies

    async def hold(self, quantity: int, seconds: int, booking: str) -> BookingReply:
        """Hold tickets of the one event there is."""
        (reply,) = await self.ask(Hold("e", quantity, seconds, booking))
        assert isinstance(reply, BookingReply)
        assert reply.state == "held"
        return reply

    @property
    def event(self) -> Event:
        """The event as ``list`` and ``watch`` show it."""
        event = self.catalogue.get("e")
        assert event is not None
        return event


@asynccontextmanager
async def opened(storage: Storage, clock: Clock) -> AsyncIterator[Shop]:
    ledger = await storage.open()
    catalogue = Catalogue(await ledger.events())
    committer = Committer(ledger, catalogue, Limits())
    selling = asyncio.create_task(committer.run())
    shop = Shop(committer, catalogue, clock)
    await shop.ask(Create("Jazz", datetime(2027, 3, 11, tzinfo=UTC), CAPACITY, "e"))
    try:
        yield shop
    finally:
        committer.close()
        await selling
        await ledger.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, clock: Clock) -> Storage:
    """An empty ledger of each kind."""
    return new_storage(request, clock)


@pytest.fixture
async def shop(storage: Storage, clock: Clock) -> AsyncIterator[Shop]:
    async with opened(storage, clock) as shop:
        yield shop


def code(reply: Reply) -> str | None:
    return reply.code if isinstance(reply, ErrorReply) else None


async def test_a_hold_can_be_confirmed_until_exactly_its_expiry(shop: Shop) -> None:
    for booking in ("a", "b"):
        held = await shop.hold(2, 10, booking)
    assert held.expires == shop.clock.time.replace(second=10)
    shop.clock.move(10 - LAST_MOMENT)
    (confirmed,) = await shop.ask(Confirm("a"))
    assert isinstance(confirmed, BookingReply)
    assert (confirmed.state, len(confirmed.tickets)) == ("confirmed", 2)
    shop.clock.move(LAST_MOMENT)
    (refusal,) = await shop.ask(Confirm("b"))
    assert isinstance(refusal, ErrorReply)
    assert (refusal.code, refusal.available, refusal.version) == ("hold_expired", CAPACITY - 2, 4)
    assert [code(reply) for reply in await shop.ask(Release("b"), Confirm("a"))] == ["hold_expired", None]


async def test_reads_show_a_booking_as_held_until_exactly_its_expiry(shop: Shop) -> None:
    held = await shop.hold(2, 10, "a")
    shop.clock.move(10 - LAST_MOMENT)
    assert await shop.read(Show("a")) == [held]
    shop.clock.move(LAST_MOMENT)
    shown, page, event = await shop.read(Show("a"), Bookings(), Show("e"))
    change = ChangeFacts("expire", shop.clock.time, CAPACITY, 2)
    expired = BookingReply("a", "e", 2, "expired", [], CAPACITY, 2, held.booked_at, changes=(change,))
    assert shown == expired
    assert isinstance(page, BookingsReply)
    assert [(booking.id, booking.state, booking.version) for booking in page.bookings] == [("a", "expired", 2)]
    assert isinstance(event, EventReply)
    assert (event.available, event.held, event.version) == (CAPACITY, 0, 2)
    # What was answered first is answered again, and changes nothing.
    (replayed,) = await shop.ask(Hold("e", 2, 10, "a"))
    assert replayed == msgspec.structs.replace(held, replayed=True)
    assert await shop.read(Show("a")) == [expired]


async def test_the_catalogue_counts_a_hold_until_exactly_its_expiry(shop: Shop) -> None:
    await shop.hold(2, 10, "a")
    shop.clock.move(10 - LAST_MOMENT)
    assert not shop.committer.expiry.is_due()
    await shop.committer.expiry.end()
    assert (shop.event.available, shop.event.held, shop.event.version) == (CAPACITY - 2, 2, 1)
    shop.clock.move(LAST_MOMENT)
    assert shop.committer.expiry.is_due()
    await shop.committer.expiry.end()
    assert (shop.event.available, shop.event.held, shop.event.version) == (CAPACITY, 0, 2)
    assert not shop.committer.expiry.is_due()


async def test_the_first_request_of_a_batch_sees_expired_holds_on_sale(shop: Shop) -> None:
    for number in range(CAPACITY // 1_000):
        await shop.hold(1_000, 10 if number == 0 else 20, f"h{number}")
    shop.clock.move(10 - LAST_MOMENT)
    assert [code(reply) for reply in await shop.ask(Book("e", 1, "too-early"))] == ["sold_out"]
    shop.clock.move(LAST_MOMENT)
    booked, refused, confirmed = await shop.ask(Book("e", 1_000, "next"), Confirm("h0"), Confirm("h1"))
    assert [code(reply) for reply in (booked, refused, confirmed)] == [None, "hold_expired", None]
    assert isinstance(refused, ErrorReply)
    assert refused.available == 0
    assert (shop.event.available, shop.event.held, shop.event.sold) == (0, CAPACITY - 2_000, 2_000)


async def test_confirmed_and_released_holds_do_not_expire_later(shop: Shop) -> None:
    await shop.hold(2, 10, "confirmed")
    await shop.hold(3, 10, "released")
    await shop.ask(Confirm("confirmed"), Release("released"))
    version = shop.event.version
    shop.clock.move(10)
    confirmed, released = await shop.read(Show("confirmed"), Show("released"))
    assert isinstance(confirmed, BookingReply)
    assert isinstance(released, BookingReply)
    assert (confirmed.state, released.state) == ("confirmed", "released")
    assert (shop.event.sold, shop.event.held, shop.event.version) == (2, 0, version)


async def test_a_clock_set_back_does_not_revive_expired_holds(shop: Shop) -> None:
    await shop.hold(2, 10, "a")
    shop.clock.move(10)
    await shop.committer.expiry.end()
    shop.clock.move(-10)
    (refusal,) = await shop.ask(Confirm("a"))
    assert code(refusal) == "hold_expired"
    assert (shop.event.available, shop.event.held, shop.event.version) == (CAPACITY, 0, 2)
    # What is held now runs out by the clock as it is now.
    await shop.hold(3, 20, "b")
    shop.clock.move(20 - LAST_MOMENT)
    assert [code(reply) for reply in (*await shop.read(Show("b")), *await shop.ask(Confirm("b")))] == [None, None]


async def test_holds_that_ran_out_in_downtime_are_expired_at_startup(storage: Storage, clock: Clock) -> None:
    async with opened(storage, clock) as shop:
        await shop.hold(2, 10, "short")
        await shop.hold(3, 11, "long")
    clock.move(10)
    async with opened(storage, clock) as shop:
        # A daemon does this before it listens.
        await shop.committer.expiry.end()
        assert (shop.event.available, shop.event.held, shop.event.version) == (CAPACITY - 3, 3, 3)
        assert [code(reply) for reply in await shop.ask(Confirm("short"), Confirm("long"))] == ["hold_expired", None]


@asynccontextmanager
async def connected(shop: Shop) -> AsyncIterator[Callable[[str], Awaitable[Any]]]:
    """Serve one connection; give a function that sends a line and returns the next reply."""
    server = Server(Service(shop.committer, shop.catalogue, Limits()))
    [listening] = bind(await resolve("127.0.0.1", 0))
    address = listening.getsockname()
    await server.listen([listening])
    reader, writer = await asyncio.open_connection(*address)

    async def ask(line: str) -> Any:
        writer.write(line.encode() + b"\n")
        return msgspec.json.decode(await reader.readline())

    try:
        yield ask
    finally:
        writer.close()
        await server.drain(10)


@pytest.mark.parametrize("line", ["list", "list --limit 1", "show e", "watch", "watch e"])
async def test_list_show_and_watch_see_a_hold_expired_at_its_expiry(
    shop: Shop, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long the commit takes on a machine that has more to do.
    monkeypatch.setattr(expiry, "WAIT_SECONDS_MAX", SECONDS_MAX)
    async with connected(shop) as ask:
        assert (await ask("hold e 2 --seconds 10"))["available"] == CAPACITY - 2
        shop.clock.move(10)
        reply = await ask(line)
    event = reply.get("events", [reply])[0]
    assert (event["available"], event["held"], event["version"]) == (CAPACITY, 0, 2)


async def test_10000_holds_expire_in_one_commit_and_others_are_served(shop: Shop) -> None:
    async with connected(shop) as ask:
        await shop.ask(*(Hold("e", 1, 10, f"h{number}") for number in range(10_000)))
        assert (shop.event.available, shop.event.held, shop.event.version) == (CAPACITY - 10_000, 10_000, 10_000)
        commits = shop.committer.activity.counts.commits
        shop.clock.move(10)
        async with asyncio.timeout(REPLY_SECONDS_MAX):
            while shop.event.held:
                assert await ask("ping") == {"reply": "pong"}
        assert shop.committer.activity.counts.commits == commits + 1
        assert (shop.event.available, shop.event.version) == (CAPACITY, 10_001)
        [last] = await shop.read(Show("h9999"))
        assert isinstance(last, BookingReply)
        assert (last.state, last.available, last.version) == ("expired", CAPACITY, 10_001)


# A real daemon


def ran_out(hold: dict[str, Any]) -> bool:
    return datetime.now(UTC) >= datetime.fromisoformat(hold["expires"])


def test_a_killed_daemon_restarts_with_expired_holds_on_sale(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path) as daemon, daemon.connect() as connection:
        hold = connection.ask("hold 1 4 --seconds 1")
        assert hold["available"] == 96
        daemon.kill()
    until(lambda: ran_out(hold))
    with running(tmp_path) as daemon, daemon.connect() as connection:
        (event,) = connection.ask("list")["events"]
        assert (event["available"], event["held"], event["version"]) == (100, 0, 2)


def test_an_expired_hold_reaches_the_events_file_and_watchers(tmp_path: Path) -> None:
    write_events(tmp_path, 100)

    def in_file() -> int:
        available: int = msgspec.json.decode((tmp_path / "events.json").read_bytes())["events"][0]["AvailableTickets"]
        return available

    with running(tmp_path) as daemon, daemon.connect() as watcher, daemon.connect() as buyer:
        assert watcher.ask("watch")["available"] == 100
        hold = buyer.ask("hold 1 4 --seconds 3")
        assert watcher.read()["held"] == 4
        until(lambda: in_file() == 96)
        event = watcher.read()
        assert ran_out(hold)
        assert (event["available"], event["held"], event["version"]) == (100, 0, 2)
        until(lambda: in_file() == 100)
        assert buyer.ask(f"confirm {hold['id']}")["code"] == "hold_expired"
