"""A pooler before PostgreSQL, as pgbouncer is: it gives each client a backend for a session, or for a transaction.

It knows of the protocol where messages begin and end, and that ReadyForQuery says whether a transaction goes on.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

SECONDS_MAX = 20.0
CHUNK_BYTES_MAX = 1 << 16
# ReadyForQuery outside of a transaction.
_READY = b"Z\0\0\0\5I"
_ENCRYPTION_REQUESTS = (80877103, 80877104)

Mode = Literal["session", "transaction"]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Backend:
    """A session of PostgreSQL, and what it said at its start, up to the first ReadyForQuery."""

    def __init__(self, streams: Streams, greeting: bytes) -> None:
        self.reader, self.writer = streams
        self.greeting = greeting


class _Pooler:
    """``size`` is how many backends serve all clients in mode ``transaction``."""

    def __init__(self, url: str, mode: Mode, size: int) -> None:
        self._target = urlsplit(url)
        self._mode = mode
        self._size = size
        self._greeting = b""
        # The one that was free last is used next.
        self._free: asyncio.LifoQueue[_Backend] = asyncio.LifoQueue()
        self._writers: list[asyncio.StreamWriter] = []
        self._clients: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk with a client until it or the pooler closes."""
        task = asyncio.current_task()
        assert task
        self._clients.add(task)
        self._writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            startup = await _startup(reader, writer)
            if self._mode == "session":
                await self._relay(reader, writer, await self._open(startup))
            else:
                await self._share(startup, reader, writer)
        writer.close()

    async def close(self) -> None:
        """Close all connections, and wait until nobody is served any more."""
        for writer in self._writers:
            writer.close()
        await asyncio.wait(self._clients, timeout=SECONDS_MAX)

    async def _open(self, startup: bytes) -> _Backend:
        """Open a backend with the first message of a client."""
        streams = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers.append(streams[1])
        streams[1].write(startup)
        greeting = b""
        while not greeting.endswith(_READY):
            greeting += await _message(streams[0])
        return _Backend(streams, greeting)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backend: _Backend) -> None:
        writer.write(backend.greeting)
        answering = asyncio.create_task(_pass_on(backend.reader, writer))
        await _pass_on(reader, backend.writer)
        backend.writer.close()
        await answering

    async def _share(self, startup: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._greeting:
            backends = [await self._open(startup) for _ in range(self._size)]
            self._greeting = backends[0].greeting
            for backend in backends:
                self._free.put_nowait(backend)
        writer.write(self._greeting)
        message = await _message(reader)
        while message[:1] != b"X":
            backend = await self._free.get()
            # A transaction ends with a ReadyForQuery that says so; the client is asked for more until then.
            backend.writer.write(message)
            answering = asyncio.create_task(_answer_transaction(backend.reader, writer))
            asking = asyncio.create_task(_message(reader))
            while True:
                await asyncio.wait((answering, asking), return_when=asyncio.FIRST_COMPLETED)
                if answering.done():
                    break
                backend.writer.write(await asking)
                asking = asyncio.create_task(_message(reader))
            await answering
            self._free.put_nowait(backend)
            message = await asking


@asynccontextmanager
async def pooling(url: str, mode: Mode, size: int = 1) -> AsyncIterator[str]:
    """Pool connections to the database of a URL, and yield the URL of the pooler.

    In mode ``transaction``, ``size`` backends serve all clients.
    """
    pooler = _Pooler(url, mode, size)
    server = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        user, at, _ = urlsplit(url).netloc.rpartition("@")
        yield urlsplit(url)._replace(netloc=f"{user}{at}{host}:{port}").geturl()
    finally:
        server.close()
        await pooler.close()


async def _answer_transaction(backend: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what a backend answers, up to the end of the transaction."""
    while (message := await _message(backend)) != _READY:
        writer.write(message)
    writer.write(message)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK_BYTES_MAX):
        writer.write(chunk)


async def _startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Return the first message of a client, which has no type."""
    while True:
        head = await reader.readexactly(8)
        length, code = struct.unpack(">ii", head)
        if code not in _ENCRYPTION_REQUESTS:
            return head + await reader.readexactly(length - 8)
        writer.write(b"N")


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[1:]) - 4)
