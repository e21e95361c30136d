"""The asyncio client: a pool of connections that calls share, and a method for every command."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ticketctl.arguments import check_ask, check_call, check_follow, check_limits
from ticketctl.async_connection import AsyncConnection
from ticketctl.async_methods import AsyncMethods
from ticketctl.async_stream import stream
from ticketctl.link import Encryption, Token, Where
from ticketctl.protocol import (
    REQUESTS_IN_FLIGHT_MAX,
    TIMEOUT_SECONDS,
    Attempts,
    NoReply,
    Outcome,
    accepted,
    end_of_stream,
)
from ticketd.wire import PORT
from ticketd.wire.replies import Reply
from ticketd.wire.requests import Request

CONNECTIONS_MAX = 4
CLOSED = "the client was closed"


class AsyncClient(AsyncMethods):
    """A client of the daemon at this host (``unix:PATH`` for a unix socket) and port. The tasks of a loop share it.

    Up to 64 calls share a connection. Past that, it opens another one, up to ``connections_max``; past that, calls wait
    for their turn. ``timeout`` is in seconds, above 0 and at most a day. It bounds every call, with its wait and all
    its tries, but not the wait for the changes that ``watch`` yields. If there is a ``token``, each connection begins
    with it. Raises ValueError if a limit is none.

    The methods for the commands return a reply, or raise RefusedError, CannotConnectError or OutcomeUnknownError. They
    ask again, with the same ids, while the daemon is busy. A call may be cancelled, also by ``asyncio.timeout``: that
    disturbs no other call. If it had been sent, it is carried out all the same.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = PORT,
        *,
        tls: Encryption | None = None,
        token: Token | None = None,
        timeout: float = TIMEOUT_SECONDS,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        check_limits(port, timeout, connections_max)
        self.where = Where(host, port, tls)
        self.timeout = timeout
        self.token = token
        self._connections: list[AsyncConnection] = []
        # How often it was closed, and the loop of its first call.
        self._closings = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        # So many requests may be in flight, also those whose callers have gone.
        self._places = asyncio.Semaphore(connections_max * REQUESTS_IN_FLIGHT_MAX)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. Calls that are under way fail; watches go on. The next call opens a connection again.

        Raises RuntimeError on another loop than that of the calls.
        """
        self._check_loop()
        self._closings += 1
        while self._connections:
            connection = self._connections.pop()
            connection.end(NoReply(CLOSED))
            await connection.wait_closed()

    async def call(self, request: Request) -> Any:
        """Send a request and return its reply, of a kind that it expects. See the class for what is raised.

        The request gets the id of what it creates here, unless it has one.
        """
        check_call(request)
        return accepted(request, await self._ask(Attempts(request, patient=True)))

    async def ask(self, request: Request) -> Reply:
        """Send a request and return its reply, which may be an error, such as that the daemon is busy.

        Raises CannotConnectError if no reply came and nothing was changed, and OutcomeUnknownError if the request may
        have been carried out.
        """
        check_ask(request)
        return await self._ask(Attempts(request))

    async def follow(self, request: Request) -> AsyncGenerator[Any, None]:
        """Yield the replies to a request that has many, until no more come, or the caller closes the generator.

        Raises RefusedError, and CannotConnectError when the connection ends or nothing comes for too long.
        """
        check_follow(request)
        failure: NoReply | None = None
        try:
            async with aclosing(stream(self.where, self.token, self.timeout, request)) as replies:
                async for reply in replies:
                    yield accepted(request, reply)
        except NoReply as error:
            failure = error
        raise end_of_stream(self.where, failure)

    async def _ask(self, attempts: Attempts) -> Reply:
        now = self._check_loop().time
        deadline, closings = now() + self.timeout, self._closings
        outcome = await self._try(attempts.request, deadline, closings)
        while (pause := attempts.pause(outcome, deadline - now())) is not None:
            await asyncio.sleep(pause)
            outcome = await self._try(attempts.request, deadline, closings)
        assert isinstance(outcome, Reply)
        return outcome

    def _check_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop. Raises RuntimeError if another one made the first call."""
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise RuntimeError("this AsyncClient was used on another event loop; make one for each asyncio.run()")
        return loop

    async def _try(self, request: Request, deadline: float, closings: int) -> Outcome:
        """Send a request once, and return its reply, or why there is none. It fails if the client was closed since."""
        if self._places.locked():
            try:
                async with asyncio.timeout_at(deadline):
                    await self._places.acquire()
            except TimeoutError:
                return NoReply(f"the request had no turn within {self.timeout:g} s: too many are in flight")
        else:
            await self._places.acquire()
        if self._closings != closings:
            self._places.release()
            return NoReply(CLOSED)
        try:
            future = self._connection().send(request, deadline)
        except BaseException:
            self._places.release()
            raise
        return await future

    def _connection(self) -> AsyncConnection:
        """Return a connection with room for a request. There is room, as there was a place."""
        for connection in self._connections:
            if connection.has_room:
                return connection
        connection = AsyncConnection(self.where, self.token, self.timeout, self._places.release)
        self._connections = [*(each for each in self._connections if each.is_open), connection]
        return connection
