"""Holds run out exactly when they said they would, whoever asks and whether or not anybody does, in any ledger."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.daemon import REPLY_SECONDS_MAX, running, until, write_events
from tests.faketime import Clock
from tests.ledgers import LEDGERS, Ledger, new_ledger
from ticketd.books import LedgerRequest
from ticketd.box_office import BoxOffice
from ticketd.catalogue import Catalogue
from ticketd.config import Limits
from ticketd.model import Event
from ticketd.protocol import (
    Book,
    BookingReply,
    Bookings,
    BookingsReply,
    Confirm,
    Create,
    ErrorReply,
    EventReply,
    Hold,
    Release,
    Reply,
    Show,
)
from ticketd.server import Server
from ticketd.session import House
from ticketd.watchers import Watchers

CAPACITY = 100_000
LAST_MOMENT = 0.001


class Shop:
    """A box office, its catalogue and its clock, which the tests move."""

    def __init__(self, box_office: BoxOffice, catalogue: Catalogue, clock: Clock) -> None:
        self.box_office = box_office
        self.catalogue = catalogue
        self.clock = clock

    async def ask(self, *requests: LedgerRequest) -> list[Reply]:
        """Have requests decided together."""
        return await self.box_office.submit(requests, "test")

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
async def opened(ledger: Ledger, clock: Clock) -> AsyncIterator[Shop]:
    store = await ledger.open()
    catalogue = Catalogue(await store.events())
    box_office = BoxOffice(store, catalogue, Limits())
    selling = asyncio.create_task(box_office.run())
    shop = Shop(box_office, catalogue, clock)
    await shop.ask(Create("Jazz", datetime(2027, 3, 11, tzinfo=UTC), CAPACITY, "e"))
    try:
        yield shop
    finally:
        box_office.close()
        await selling
        await store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=LEDGERS)
def ledger(request: pytest.FixtureRequest, clock: Clock) -> Ledger:
    """An empty ledger of each kind."""
    return new_ledger(request, clock)


@pytest.fixture
async def shop(ledger: Ledger, clock: Clock) -> AsyncIterator[Shop]:
    async with opened(ledger, clock) as shop:
        yield shop


def code(reply: Reply) -> str | None:
    return reply.code if isinstance(reply, ErrorReply) else None


async def test_until_the_last_moment_a_hold_can_be_confirmed_and_from_then_on_it_cannot(shop: Shop) -> None:
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


async def test_whatever_reads_the_booking_sees_it_held_until_the_last_moment_and_expired_from_then_on(
    shop: Shop,
) -> None:
    held = await shop.hold(2, 10, "a")
    shop.clock.move(10 - LAST_MOMENT)
    assert await shop.ask(Show("a")) == [held]
    shop.clock.move(LAST_MOMENT)
    shown, page, event = await shop.ask(Show("a"), Bookings(), Show("e"))
    expired = BookingReply("a", "e", 2, "expired", [], CAPACITY, 2)
    assert shown == expired
    assert isinstance(page, BookingsReply)
    assert [(booking.id, booking.state, booking.version) for booking in page.bookings] == [("a", "expired", 2)]
    assert isinstance(event, EventReply)
    assert (event.available, event.held, event.version) == (CAPACITY, 0, 2)
    # What was answered first is answered again, and changes nothing.
    (replayed,) = await shop.ask(Hold("e", 2, 10, "a"))
    assert replayed == msgspec.structs.replace(held, replayed=True)
    assert await shop.ask(Show("a")) == [expired]


async def test_the_catalogue_counts_a_hold_until_the_last_moment_and_not_from_then_on(shop: Shop) -> None:
    await shop.hold(2, 10, "a")
    shop.clock.move(10 - LAST_MOMENT)
    assert not shop.box_office.holds_ran_out()
    await shop.ask()
    assert (shop.event.available, shop.event.held, shop.event.version) == (CAPACITY - 2, 2, 1)
    shop.clock.move(LAST_MOMENT)
    assert shop.box_office.holds_ran_out()
    await shop.ask()
    assert (shop.event.available, shop.event.held, shop.event.version) == (CAPACITY, 0, 2)
    assert not shop.box_office.holds_ran_out()


async def test_within_one_batch_what_has_run_out_is_on_sale_for_the_first_request_already(shop: Shop) -> None:
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


async def test_what_was_confirmed_or_released_in_time_does_not_run_out_later(shop: Shop) -> None:
    await shop.hold(2, 10, "confirmed")
    await shop.hold(3, 10, "released")
    await shop.ask(Confirm("confirmed"), Release("released"))
    version = shop.event.version
    shop.clock.move(10)
    confirmed, released = await shop.ask(Show("confirmed"), Show("released"))
    assert isinstance(confirmed, BookingReply)
    assert isinstance(released, BookingReply)
    assert (confirmed.state, released.state) == ("confirmed", "released")
    assert (shop.event.sold, shop.event.held, shop.event.version) == (2, 0, version)


async def test_a_clock_that_goes_back_brings_nothing_back_to_life(shop: Shop) -> None:
    await shop.hold(2, 10, "a")
    shop.clock.move(10)
    await shop.ask()
    shop.clock.move(-10)
    (refusal,) = await shop.ask(Confirm("a"))
    assert code(refusal) == "hold_expired"
    assert (shop.event.available, shop.event.held, shop.event.version) == (CAPACITY, 0, 2)
    # What is held now runs out by the clock as it is now.
    await shop.hold(3, 10, "b")
    shop.clock.move(10 - LAST_MOMENT)
    assert [code(reply) for reply in await shop.ask(Show("b"), Confirm("b"))] == [None, None]


async def test_holds_that_run_out_while_nobody_serves_are_expired_from_the_start(ledger: Ledger, clock: Clock) -> None:
    async with opened(ledger, clock) as shop:
        await shop.hold(2, 10, "short")
        await shop.hold(3, 11, "long")
    clock.move(10)
    async with opened(ledger, clock) as shop:
        # A daemon does this before it listens.
        await shop.ask()
        assert (shop.event.available, shop.event.held, shop.event.version) == (CAPACITY - 3, 3, 3)
        assert [code(reply) for reply in await shop.ask(Confirm("short"), Confirm("long"))] == ["hold_expired", None]


@asynccontextmanager
async def connected(shop: Shop) -> AsyncIterator[Callable[[str], Awaitable[Any]]]:
    """Serve one connection; give a function that sends a line and returns the next reply."""
    server = Server(House(shop.box_office, shop.catalogue, Limits(), Watchers(shop.catalogue)))
    host, _, port = (await server.listen("127.0.0.1", 0))[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, port)

    async def ask(line: str) -> Any:
        writer.write(line.encode() + b"\n")
        return msgspec.json.decode(await reader.readline())

    try:
        yield ask
    finally:
        writer.close()
        await server.drain(10)


@pytest.mark.parametrize("line", ["list", "list --limit 1", "show e", "watch", "watch e"])
async def test_who_asks_at_the_very_moment_sees_it_expired_before_anything_has_swept_it(shop: Shop, line: str) -> None:
    async with connected(shop) as ask:
        assert (await ask("hold e 2 --seconds 10"))["available"] == CAPACITY - 2
        shop.clock.move(10)
        reply = await ask(line)
    event = reply.get("events", [reply])[0]
    assert (event["available"], event["held"], event["version"]) == (CAPACITY, 0, 2)


async def test_ten_thousand_holds_come_back_in_one_commit_while_others_are_served(shop: Shop) -> None:
    async with connected(shop) as ask:
        await shop.ask(*(Hold("e", 1, 10, f"h{number}") for number in range(10_000)))
        assert (shop.event.available, shop.event.held, shop.event.version) == (CAPACITY - 10_000, 10_000, 10_000)
        commits = shop.box_office.counts.commits
        gaps = []
        shop.clock.move(10)
        async with asyncio.timeout(REPLY_SECONDS_MAX):
            while shop.event.held:
                sent = time.perf_counter()
                assert await ask("ping") == {"reply": "pong"}
                gaps.append(time.perf_counter() - sent)
        print(f"longest ping ms={max(gaps) * 1e3:.1f} pings={len(gaps)}")
        assert shop.box_office.counts.commits == commits + 1
        assert (shop.event.available, shop.event.version) == (CAPACITY, 10_001)
        last = (await shop.ask(Show("h9999")))[0]
        assert isinstance(last, BookingReply)
        assert (last.state, last.available, last.version) == ("expired", CAPACITY, 10_001)


# A real daemon


def ran_out(hold: dict[str, Any]) -> bool:
    return datetime.now(UTC) >= datetime.fromisoformat(hold["expires"])


def test_a_daemon_that_was_killed_starts_with_what_ran_out_meanwhile_back_on_sale(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path) as daemon, daemon.connect() as connection:
        hold = connection.ask("hold 1 4 --seconds 1")
        assert hold["available"] == 96
        daemon.kill()
    until(lambda: ran_out(hold))
    with running(tmp_path) as daemon, daemon.connect() as connection:
        (event,) = connection.ask("list")["events"]
        assert (event["available"], event["held"], event["version"]) == (100, 0, 2)


def test_a_hold_that_runs_out_comes_back_without_anyone_asking_in_the_file_and_for_watchers(tmp_path: Path) -> None:
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
