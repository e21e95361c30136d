"""A server in the process of the test, over a real ledger, on both loops: its disk and its buffers can be filled."""

import asyncio
import inspect
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import uvloop

from tests.daemon import Daemon, running, write_events
from tests.ledgers import STORAGES
from tests.postgres import Server as Postgres
from tests.secured import access, short_folder
from ticketd.access_file import AccessList
from ticketd.commits.catalogue import Catalogue
from ticketd.commits.committer import Committer
from ticketd.config import Limits
from ticketd.ledger.embedded.ledger import EmbeddedLedger, system_clock
from ticketd.serving.access import Access
from ticketd.serving.connection import Connection as ServedConnection
from ticketd.serving.listening import bind, resolve
from ticketd.serving.server import Server
from ticketd.serving.service import Service
from ticketd.wire.requests import Create
from ticketd.wire.roles import Role

DATE = datetime(2027, 3, 11, tzinfo=UTC)
SECONDS_MAX = 30.0
# What the kernel keeps for a connection that does not read is hardly more than this.
KERNEL_BYTES = 4 * 1024
# Longer than any reply.
LINE_BYTES_MAX = 1024 * 1024
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


# A hold of a ``sale`` lasts no longer, however often it is extended.
HOLD_SECONDS_TOTAL_MAX = 600


@pytest.fixture(scope="module", params=STORAGES)
def sale(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon for all tests of a file, on a ledger of each kind. It has no events yet."""
    folder = tmp_path_factory.mktemp("sale")
    write_events(folder)
    arguments = ["--hold-seconds-total-max", str(HOLD_SECONDS_TOTAL_MAX)]
    postgres: Postgres | None = None
    if request.param == "postgres":
        postgres = request.getfixturevalue("postgres")
        arguments += ["--ledger", postgres.new_database()]
    with running(folder, *arguments) as daemon:
        yield daemon
    if postgres:
        postgres.give_back(arguments[-1])


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A path that is short enough for a unix socket."""
    with short_folder() as folder:
        yield folder / "socket"


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on the loop of asyncio, and on uvloop, whose transports differ when a client has gone."""

    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test(**fixtures))

    own = inspect.signature(test)
    factory = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), factory])  # type: ignore[attr-defined]
    run.pytestmark = getattr(test, "pytestmark", [])  # type: ignore[attr-defined]
    both: Callable[..., None] = pytest.mark.parametrize("loop_factory", LOOPS, ids=["asyncio", "uvloop"])(run)
    return both


@dataclass
class Served:
    """A server and its parts."""

    port: int
    server: Server
    service: Service
    committer: Committer
    clients: list["Client"] = field(default_factory=list)

    async def connect(self) -> "Client":
        """Open a connection for which the kernel keeps little."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=client, limit=LINE_BYTES_MAX)
        cast(asyncio.Transport, writer.transport).pause_reading()
        self.clients.append(Client(reader, writer))
        return self.clients[-1]

    async def alone(self) -> tuple["Client", ServedConnection]:
        """Open the only connection, and return both of its sides."""
        client = await self.connect()
        assert await client.ask("ping") == {"reply": "pong"}
        [connection] = self.server._served
        return client, connection

    def sold(self, event: str = "1") -> int:
        """Return how many tickets of an event are sold."""
        found = self.service.catalogue.get(event)
        assert found
        return found.sold


@dataclass(eq=False)
class Client:
    """The other side of a connection. It reads only when it is asked to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self) -> dict[str, Any]:
        with self._reading():
            async with asyncio.timeout(SECONDS_MAX):
                line = await self.reader.readline()
        assert line.endswith(b"\n"), f"the connection ended with {line!r}"
        reply: dict[str, Any] = msgspec.json.decode(line)
        return reply

    async def ask(self, line: str) -> dict[str, Any]:
        self.send(line.encode() + b"\n")
        return await self.read()

    async def rest(self) -> bytes:
        """Return what comes until the server closes the connection."""
        with self._reading():
            async with asyncio.timeout(SECONDS_MAX):
                return await self.reader.read()

    def reset(self) -> None:
        """Go without a goodbye."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        cast(asyncio.Transport, self.writer.transport).abort()

    def finish(self) -> None:
        """Tell the server that nothing more comes."""
        self.writer.write_eof()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        transport = cast(asyncio.Transport, self.writer.transport)
        # It may be closed already; uvloop raises RuntimeError then.
        if not transport.is_closing():
            transport.resume_reading()
        yield
        if not transport.is_closing():
            transport.pause_reading()

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


def guarded_service(
    committer: Committer, catalogue: Catalogue, limits: Limits, anonymous: Role | None = None
) -> Service:
    """A service for those who have a token, which there is for each role, and perhaps for others."""
    return Service(committer, catalogue, limits, Access(access_list(anonymous)))


def access_list(anonymous: Role | None = None) -> AccessList:
    return msgspec.json.decode(access(anonymous=anonymous), type=AccessList)


@asynccontextmanager
async def serving(
    folder: Path,
    limits: Limits | None = None,
    clock: Callable[[], int] = system_clock,
    *,
    make: Callable[..., Service] = Service,
    events: int = 1,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Served]:
    """Serve events "1", "2" and so on until the end of the block."""
    limits = limits or Limits()
    ledger = EmbeddedLedger(folder / "events.db", limits.commit_seconds_max, clock)
    catalogue = Catalogue(await ledger.events())
    committer = Committer(ledger, catalogue, limits)
    committing = asyncio.create_task(committer.run())
    creates = [Create("x" * 200, DATE, 1_000_000, str(number)) for number in range(1, events + 1)]
    await committer.ask(creates, "test")
    service = make(committer, catalogue, limits)
    server = Server(service)
    [listening] = bind(await resolve("127.0.0.1", 0))
    # Connections inherit it.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
    port: int = listening.getsockname()[1]
    await server.listen([listening], tls)
    try:
        served = Served(port, server, service, committer)
        yield served
    finally:
        for client in served.clients:
            await client.close()
        await server.drain(SECONDS_MAX)
        committer.close()
        await committing
        await ledger.close()


async def until(condition: Callable[[], object], seconds: float = 0.001) -> None:
    """Wait for what cannot be awaited, and look every so many seconds, or in each round of the loop (0)."""
    async with asyncio.timeout(SECONDS_MAX):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(seconds)
