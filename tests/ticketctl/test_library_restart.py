"""A shop sells on while its daemon is killed or started again: each order is booked once, whatever its buyer saw."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon import Daemon, running, write_events
from ticketctl import AsyncClient, CannotConnectError, OutcomeUnknownError

BUYERS, ORDERS = 30, 20


class Shop:
    """Buyers with orders of their own, who try again until each is booked."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.versions: list[int] = []
        self.half_sold = asyncio.Event()

    async def buy(self, buyer: int) -> None:
        for order in (f"order-{buyer}-{number}" for number in range(ORDERS)):
            booking = None
            while not booking:
                try:
                    booking = await self._client.book("1", 1, booking=order)
                except (CannotConnectError, OutcomeUnknownError):
                    await asyncio.sleep(0.02)
            assert booking.id == order
            self.versions.append(booking.version)
            if len(self.versions) >= BUYERS * ORDERS // 2:
                self.half_sold.set()


@pytest.mark.parametrize("end", [Daemon.kill, Daemon.end])
async def test_a_shop_sells_each_order_once_through_a_restart(end: Callable[[Daemon], object], tmp_path: Path) -> None:
    """Starts two daemons."""
    write_events(tmp_path, BUYERS * ORDERS)
    with running(tmp_path) as daemon:
        async with AsyncClient("127.0.0.1", daemon.port) as client:
            shop = Shop(client)
            buyers = asyncio.gather(*map(shop.buy, range(BUYERS)))
            await shop.half_sold.wait()
            await asyncio.to_thread(end, daemon)
            with running(tmp_path, "--port", str(daemon.port)):
                await buyers
    # Only bookings change this event.
    assert sorted(shop.versions) == list(range(1, BUYERS * ORDERS + 1))
