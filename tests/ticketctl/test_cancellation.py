"""A call that is cancelled, at whatever moment, never lets another one get its reply."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.conftest import booked
from tests.guarded import Guarded, guarded
from tests.scripted import scripted
from ticketctl import AsyncClient, read_token
from ticketctl.protocol import REQUESTS_IN_FLIGHT_MAX
from ticketd.wire.replies import BookingReply

CAPACITY = 1_000_000
# So many calls are under way beside the one that is cancelled.
OTHERS = 3
# More than any call takes.
STEPS_MAX = 50_000


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A daemon with an access file, so that a connection begins with a token."""
    folder: Path = tmp_path_factory.mktemp("shop")
    with guarded(folder) as shop:
        with shop.daemon.connect() as connection:
            connection.ask(f"auth {shop.secrets['manager']}")
            connection.ask(f"amend 1 --capacity {CAPACITY}")
        yield shop


def client_of(shop: Guarded, connections_max: int = 1) -> AsyncClient:
    token = read_token(shop.token_file("manager"))
    return AsyncClient("127.0.0.1", shop.port, token=token, connections_max=connections_max)


async def check(client: AsyncClient, names: Sequence[str], bookings: Sequence[BookingReply]) -> None:
    """See that each call got its own reply, that a later one does, and that all is booked as the replies say."""
    assert [booking.id for booking in bookings] == list(names)
    shown = await asyncio.gather(*(client.show(name, kind="booking") for name in names))
    assert [booking.tickets for booking in shown] == [booking.tickets for booking in bookings]


async def cancelled_after(client: AsyncClient, steps: int, name: str) -> bool:
    """Cancel a call among others, so many steps of the loop after it began. Return whether it was still under way."""
    names = [f"{name}-{number}" for number in range(2 * OTHERS)]
    first, last = names[:OTHERS], names[OTHERS:]
    before = [asyncio.create_task(client.book("1", 1, booking=each)) for each in first]
    victim = asyncio.create_task(client.book("1", 1, booking=f"{name}-victim"))
    after = [asyncio.create_task(client.book("1", 1, booking=each)) for each in last]
    for _ in range(steps):
        await asyncio.sleep(0)
    was_under_way = victim.cancel()
    bookings = await asyncio.gather(*before, *after)
    with suppress(asyncio.CancelledError):
        assert (await victim).id == f"{name}-victim"
    await check(client, names, bookings)
    # Whether it was booked or not, asking again settles it.
    assert (await client.book("1", 1, booking=f"{name}-victim")).id == f"{name}-victim"
    return was_under_way


async def cancelled_at_steps(client: AsyncClient, name: str, is_connected: bool, each_up_to: int) -> int:
    """Cancel a call after 0, 1, 2 and so on steps until it is done before that; then return how many that were.

    Up to some number it is each of them; past that they are farther and farther apart.
    """
    steps = 0
    async with client:
        while steps < STEPS_MAX:
            if not is_connected:
                await client.aclose()
            if not await cancelled_after(client, steps, f"{name}-{steps}"):
                return steps
            steps += 1 + steps // each_up_to
    pytest.fail("the call was not done after so many steps")


@pytest.mark.parametrize("is_connected", [True, False])
@pytest.mark.parametrize("loop", [asyncio, uvloop])
def test_a_call_cancelled_at_any_step_takes_no_reply_along(shop: Guarded, loop: Any, is_connected: bool) -> None:
    async def run() -> int:
        return await cancelled_at_steps(client_of(shop), f"{loop.__name__}-{is_connected}", is_connected, 20)

    assert loop.run(run()) > 5


@pytest.mark.parametrize("is_connected", [True, False])
async def test_a_call_cancelled_at_every_single_step_takes_no_reply_along(is_connected: bool) -> None:
    """The server is on the same loop, so that there are few steps."""
    shown: dict[str, bytes] = {}

    def answered(request: dict[str, Any]) -> bytes:
        name = request.get("booking") or request["id"]
        return shown.setdefault(name, booked(name))

    async with scripted(answered) as server:
        client = AsyncClient("127.0.0.1", server.port, connections_max=1)
        assert await cancelled_at_steps(client, "scripted", is_connected, STEPS_MAX) > 5


@pytest.mark.parametrize("is_connected", [True, False])
async def test_calls_cancelled_before_they_were_sent_are_not_sent(is_connected: bool) -> None:
    async with (
        scripted(lambda request: booked(request["booking"])) as server,
        AsyncClient("127.0.0.1", server.port, connections_max=1) as client,
    ):
        if is_connected:
            await client.book("1", 1, booking="first")
        gone = [asyncio.create_task(client.book("1", 1)) for _ in range(REQUESTS_IN_FLIGHT_MAX)]
        await asyncio.sleep(0)
        for call in gone:
            call.cancel()
        # Their places are free again, too.
        assert (await client.book("1", 1, booking="last")).id == "last"
    assert [request["booking"] for request in server.asked] == ["first", "last"][not is_connected :]


async def test_a_call_cancelled_while_it_waits_for_a_place_gives_it_on(shop: Guarded) -> None:
    async with client_of(shop) as client:
        for steps in (*range(8), *range(8, 3 * REQUESTS_IN_FLIGHT_MAX, 24)):
            names = [f"full-{steps}-{number}" for number in range(REQUESTS_IN_FLIGHT_MAX)]
            calls = [asyncio.create_task(client.book("1", 1, booking=name)) for name in names]
            waiting = [asyncio.create_task(client.ping()) for _ in range(4)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in waiting[::2]:
                task.cancel()
            assert [booking.id for booking in await asyncio.gather(*calls)] == names
            await asyncio.gather(*waiting, return_exceptions=True)
        # All places are free again: so many calls are in flight at once.
        await asyncio.gather(*(client.ping() for _ in range(REQUESTS_IN_FLIGHT_MAX)))


async def test_a_crowd_of_calls_cancelled_at_random_mixes_up_nothing(shop: Guarded, chance: random.Random) -> None:
    async with client_of(shop, connections_max=3) as client:
        before = await client.show("1", kind="event")
        numbers = count()
        booked: set[str] = set()

        async def buyer() -> None:
            for _ in range(30):
                name = f"crowd-{next(numbers)}"
                with suppress(TimeoutError):
                    async with asyncio.timeout(chance.expovariate(500)):
                        assert (await client.book("1", 1, booking=name)).id == name
                if chance.random() < 0.5:
                    assert (await client.book("1", 1, booking=name)).id == name
                    booked.add(name)

        await asyncio.gather(*(buyer() for _ in range(40)))
        for name in booked:
            assert (await client.show(name, kind="booking")).id == name
        after = await client.show("1", kind="event")
    assert len(booked) <= after.sold - before.sold <= next(numbers)
