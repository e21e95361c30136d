"""What deploy/haproxy.cfg promises: the clients of a daemon that is cut off, or hangs, go on with another one."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from tests.conftest import SECONDS_MAX
from tests.daemon import write_events
from tests.faults.balancer import FILE, Balancer, Configuration
from tests.faults.fleet import Fleet
from tests.faults.proxy import Fault, Proxy
from tests.postgres import free_port, query
from tests.serving.conftest import until
from ticketd.wire.codec import decode
from ticketd.wire.requests import Ready

BUYERS = 60


class Buyer:
    """Buys a ticket at a time. Connects again when the connection ends, and sends again what got no reply."""

    def __init__(self, name: str, port: int) -> None:
        self._name = name
        self._port = port
        self.connections = 0
        self.bought: list[str] = []

    async def run(self) -> None:
        """Buy until cancelled."""
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                self.connections += 1
                try:
                    await self._buy(reader, writer)
                finally:
                    writer.close()
            # As a client does that does not want to be a flood.
            await asyncio.sleep(0.05)

    async def _buy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            booking = f"{self._name}-{len(self.bought)}"
            writer.write(f"book 1 1 --booking {booking}\n".encode())
            line = await reader.readline()
            if not line.endswith(b"\n"):
                return
            reply = msgspec.json.decode(line)
            if reply["reply"] == "booking":
                self.bought.append(booking)
            else:
                assert reply["code"] == "busy", reply
                await asyncio.sleep(reply["retry_after"])


@asynccontextmanager
async def haproxy(ports: Sequence[int], folder: Path) -> AsyncIterator[int]:
    """Run haproxy itself with the file, but for the addresses; yield its port."""
    port = free_port()
    lines = [line for line in FILE.read_text().splitlines() if not line.strip().startswith("server ")]
    lines += [f"    server ticketd{port} 127.0.0.1:{port} check" for port in ports]
    file = folder / "haproxy.cfg"
    file.write_text("\n".join(lines).replace("bind :8080", f"bind 127.0.0.1:{port}") + "\n")
    process = await asyncio.create_subprocess_exec("haproxy", "-db", "-f", file)
    try:
        yield port
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def stand_in(ports: Sequence[int], _folder: Path) -> AsyncIterator[int]:
    """Run the balancer of the tests with the file; yield its port."""
    async with Balancer(Configuration(FILE.read_text()), ports) as balancer:
        yield balancer.port


def test_its_check_is_taken_by_daemons_without_words_too() -> None:
    assert isinstance(decode(Configuration(FILE.read_text()).send.strip()), Ready)


@pytest.mark.parametrize("balancing", [stand_in, haproxy] if shutil.which("haproxy") else [stand_in])
@pytest.mark.parametrize("fault", ["cut off", "stopped"])
async def test_all_clients_of_a_daemon_that_cannot_sell_go_on(
    fault: str,
    balancing: Callable[[Sequence[int], Path], AbstractAsyncContextManager[int]],
    tmp_path: Path,
    database: str,
) -> None:
    # Over 5 s: the daemon waits 2 s for an answer before it is not ready, and then two checks have to fail.
    write_events(tmp_path, 1_000_000)
    with Proxy(database) as proxy, Fleet(tmp_path, database) as fleet:
        faulty, other = fleet.start(url=proxy.url), fleet.start()
        async with balancing([faulty.port, other.port], tmp_path) as port:
            buyers = [Buyer(f"b{number}", port) for number in range(BUYERS)]
            buying = [asyncio.create_task(buyer.run()) for buyer in buyers]
            await until(lambda: all(buyer.bought for buyer in buyers))
            if fault == "stopped":
                faulty.process.send_signal(signal.SIGSTOP)
            else:
                proxy.inject([Fault("client", "byte", 0, 0.0, "part")])
                await asyncio.to_thread(proxy.struck.get, timeout=SECONDS_MAX)
            # One sale of each may have been under way.
            before = [len(buyer.bought) + 1 for buyer in buyers]
            await until(
                lambda: all(len(buyer.bought) > sold for buyer, sold in zip(buyers, before, strict=True)), seconds=0.1
            )
            again = sum(buyer.connections for buyer in buyers) - BUYERS
            assert BUYERS / 3 < again < BUYERS * 2 / 3, "about half were with each daemon"
            for task in buying:
                task.cancel()
            await asyncio.wait(buying)
        fleet.kill(faulty)
        sold = {row["id"] for row in query(database, "SELECT id FROM ticketd.bookings")}
        assert sold >= {booking for buyer in buyers for booking in buyer.bought}
        fleet.end()
