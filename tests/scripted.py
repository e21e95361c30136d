"""A server on the loop of a test, which answers each line as the test says: no daemon, but real connections."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

# What answers a request: bytes to send, None for silence, or BREAK to close the connection.
Answer = bytes | None
BREAK = b""
SECONDS_MAX = 20.0


class Scripted:
    """What was asked, in order, and on how many connections."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self._answer = answer
        self._writers: list[asyncio.StreamWriter] = []
        self._talks: list[asyncio.Task[None]] = []
        self._news = asyncio.Condition()
        self.asked: list[dict[str, Any]] = []
        self.connections = 0
        self.port = 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        self.connections += 1
        self._writers.append(writer)
        if task := asyncio.current_task():
            self._talks.append(task)
        try:
            async for line in reader:
                request = msgspec.json.decode(line)
                async with self._news:
                    self.asked.append(request)
                    self._news.notify_all()
                answer = self._answer(request)
                if answer == BREAK:
                    break
                if answer:
                    writer.write(answer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def wait_asked(self, count: int) -> None:
        """Return once so much was asked."""
        async with asyncio.timeout(SECONDS_MAX), self._news:
            await self._news.wait_for(lambda: len(self.asked) >= count)

    def close(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def wait_closed(self) -> None:
        """Return once they have ended."""
        if self._talks:
            await asyncio.wait(self._talks)


@asynccontextmanager
async def scripted(answer: Callable[[dict[str, Any]], Answer]) -> AsyncIterator[Scripted]:
    """Run it until the end of the block."""
    script = Scripted(answer)
    server = await asyncio.start_server(script.talk, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        script.close()
        await script.wait_closed()
        await server.wait_closed()
