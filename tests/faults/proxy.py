"""Stands between a daemon and PostgreSQL, and breaks connections at a chosen byte or message of either side.

It knows of the protocol where messages begin and end, and which of them commits: COMMIT, or the end of the statement
that saves a batch, which is a transaction of its own.
"""

import asyncio
import queue
import random
import re
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import inf
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

END_SECONDS_MAX = 30.0
CHUNK_BYTES_MAX = 1 << 16
# Those that are drawn.
PASSED_MAX = {"byte": 10_000, "message": 40, "commit": 3}
FREEZES_SECONDS = (0.01, 0.01, 0.01, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 3.0)

_COMMIT = re.compile(rb"Q....\s*COMMIT\s*;?\s*\0", re.DOTALL | re.IGNORECASE)
_SAVE = re.compile(rb"\A\s*SELECT [^()]* FROM save\(")
# The ones for SSL and for GSSAPI.
_ENCRYPTION_REQUESTS = [struct.pack(">ii", 8, code) for code in (80877103, 80877104)]

Side = Literal["client", "server"]
What = Literal["byte", "message", "commit"]
How = Literal["close", "reset", "freeze", "part"]


class Fault(NamedTuple):
    """Where it happens: counted are the bytes, messages or COMMITs that ``side`` sends from now on, of all connections.

    So many pass, and of the next one this part of it, from 0 to 1. A COMMIT of the server's side is its answer to one.
    ``close`` and ``reset`` end the connection, on both sides. ``freeze`` passes nothing on for so long, and ``part``
    nothing of any connection, new ones included.
    """

    side: Side
    what: What
    passed: int
    part: float
    how: How
    seconds: float = inf


def faults(chance: random.Random) -> Iterator[Fault]:
    """Draw faults without end, half of them about COMMIT."""
    sides: list[Side] = ["client", "server"]
    whats: list[What] = ["byte", "message", "commit", "commit"]
    hows: list[How] = ["close", "close", "reset", "reset", "freeze", "part"]
    while True:
        what, how = chance.choice(whats), chance.choice(hows)
        part = chance.choice([0.0, chance.random(), 1.0])
        seconds = chance.choice([*FREEZES_SECONDS] if how == "part" else [*FREEZES_SECONDS, inf])
        yield Fault(chance.choice(sides), what, chance.randrange(PASSED_MAX[what]), part, how, seconds)


class _Cut(Exception):
    """The end of a connection, and whether it is a reset."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


class _Link:
    """A connection, and what it waits for before it passes something on."""

    def __init__(self, together: asyncio.Event) -> None:
        self.flows = asyncio.Event()
        self.flows.set()
        self.together = together
        # The client has sent COMMIT, and what the server says next is about that.
        self.committing = False
        # Prepared statements that save a batch, and whether one of them has been given its parameters.
        self.saves: set[bytes] = set()
        self.saving = False

    def commits(self, message: bytes) -> bool:
        """Whether the client ends a transaction with this message, so that it is committed."""
        kind, body = message[:1], message[5:]
        if kind == b"P":
            name, query, _ = body.split(b"\0", 2)
            if _SAVE.search(query):
                self.saves.add(name)
        elif kind == b"B":
            _portal, name, _ = body.split(b"\0", 2)
            self.saving = name in self.saves
        elif kind == b"S" and self.saving:
            self.saving = False
            return True
        return bool(_COMMIT.fullmatch(message))


class Proxy:
    """Relays connections to the PostgreSQL of a URL. ``struck`` tells the faults that came about."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        port: int = self._listener.getsockname()[1]
        user, at, _ = self._target.netloc.rpartition("@")
        self.url = self._target._replace(netloc=f"{user}{at}127.0.0.1:{port}").geturl()
        self.struck: queue.SimpleQueue[Fault] = queue.SimpleQueue()
        self._faults: Iterator[Fault] = iter(())
        self._fault: Fault | None = None
        self._passed = 0
        # All connections wait for it.
        self._together = asyncio.Event()
        self._together.set()
        self._loop = asyncio.new_event_loop()
        self._serving = self._loop.create_task(self._serve())
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(END_SECONDS_MAX)

    def inject(self, faults: Iterable[Fault]) -> None:
        """Let these come about instead, one after the other. What is sent after this call counts."""
        self._loop.call_soon_threadsafe(self._next, iter(faults))

    def partition(self) -> None:
        """Pass nothing on, of any connection, new ones included, until ``heal``."""
        self._loop.call_soon_threadsafe(self._together.clear)

    def heal(self) -> None:
        """Pass everything on again, first of all what was sent meanwhile."""
        self._loop.call_soon_threadsafe(self._together.set)

    def _next(self, faults: Iterator[Fault]) -> None:
        self._faults = faults
        self._fault = next(faults, None)
        self._passed = 0

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serving)
        self._loop.close()

    async def _serve(self) -> None:
        with self._listener:
            async with asyncio.TaskGroup() as links:
                while True:
                    client, _ = await self._loop.sock_accept(self._listener)
                    links.create_task(self._relay(client, _Link(self._together)))

    async def _relay(self, client: socket.socket, link: _Link) -> None:
        with client, socket.socket() as server:
            server.setblocking(False)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await self._loop.sock_connect(server, (self._target.hostname, self._target.port))
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(link, "client", client, server))
                    pumps.create_task(self._pump(link, "server", server, client))
            except* OSError:
                pass
            except* _Cut as cuts:
                if any(cut.reset for cut in cuts.exceptions if isinstance(cut, _Cut)):
                    for end in (client, server):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def _pump(self, link: _Link, side: Side, source: socket.socket, sink: socket.socket) -> None:
        stream = bytearray()
        # What a client says first has no type.
        typed = side == "server"
        while chunk := await self._receive(source):
            stream += chunk
            while 0 < (length := _length(stream, typed=typed)) <= len(stream):
                message = bytes(stream[:length])
                del stream[:length]
                if message in _ENCRYPTION_REQUESTS:
                    await self._loop.sock_sendall(source, b"N")
                else:
                    typed = True
                    await self._pass_on(link, side, message, sink)
        await link.flows.wait()
        await link.together.wait()
        await self._loop.sock_sendall(sink, stream)
        sink.shutdown(socket.SHUT_WR)

    async def _receive(self, source: socket.socket) -> bytes:
        try:
            return await self._loop.sock_recv(source, CHUNK_BYTES_MAX)
        except ConnectionError:
            # This too is passed on only while the connection is not frozen.
            return b""

    async def _pass_on(self, link: _Link, side: Side, message: bytes, sink: socket.socket) -> None:
        await link.flows.wait()
        await link.together.wait()
        is_commit = link.commits(message) if side == "client" else link.committing
        link.committing = side == "client" and is_commit
        fault, length = self._fault, self._strikes(side, message, is_commit=is_commit)
        await self._loop.sock_sendall(sink, message[:length])
        if fault is None or length is None:
            return
        self._next(self._faults)
        self.struck.put(fault)
        if fault.how in ("close", "reset"):
            raise _Cut(reset=fault.how == "reset")
        gate = link.flows if fault.how == "freeze" else link.together
        gate.clear()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            gate.set()
        await self._loop.sock_sendall(sink, message[length:])

    def _strikes(self, side: Side, message: bytes, *, is_commit: bool) -> int | None:
        """Return how many bytes of a message are still passed on, or None if the fault does not strike here."""
        fault = self._fault
        if fault is None or side != fault.side or (fault.what == "commit" and not is_commit):
            return None
        weight = len(message) if fault.what == "byte" else 1
        left = fault.passed - self._passed
        if left >= weight:
            self._passed += weight
            return None
        return left if fault.what == "byte" else round(fault.part * len(message))


def _length(stream: bytearray, *, typed: bool) -> int:
    """Return the length of the first message, or 0 if that is not known yet."""
    start = 1 if typed else 0
    head = stream[start : start + 4]
    return start + int.from_bytes(head) if len(head) == 4 else 0
