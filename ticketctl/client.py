"""The blocking client: a pool of connections, the rule for sending a request again, and a method for every command.

Knows nothing of what people see.
"""

import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, NoReturn, TypeVar

from ticketctl.arguments import check_ask, check_call, check_follow, check_limits, check_repeatable
from ticketctl.connection import Connection
from ticketctl.failures import CannotConnectError, OutcomeUnknownError, RefusedError
from ticketctl.link import Encryption, Token, Where
from ticketctl.methods import Methods
from ticketctl.protocol import (
    REQUESTS_IN_FLIGHT_MAX,
    SILENCE_SECONDS_MAX,
    TIMEOUT_SECONDS,
    Attempts,
    NoReply,
    Outcome,
    accepted,
    end_of_stream,
    interruption,
)
from ticketd.wire import PORT
from ticketd.wire.replies import PongReply, Reply
from ticketd.wire.requests import Ping, Request

CONNECTIONS_MAX = 16

R = TypeVar("R", bound=Request)

__all__ = ["CannotConnectError", "Client", "OutcomeUnknownError", "RefusedError"]


class Client(Methods):
    """A client of the daemon at this host (``unix:PATH`` for a unix socket) and port. Threads may share it.

    It opens connections when it needs them, one for each call that is under way, up to ``connections_max``, and keeps
    them for the next calls. ``timeout`` is in seconds, above 0 and at most a day. It bounds every call, with all its
    tries, but not the wait for the changes that ``watch`` yields. If there is a ``token``, each connection begins with
    it. Raises ValueError if a limit is none.

    The methods for the commands return a reply, or raise RefusedError, CannotConnectError or OutcomeUnknownError. They
    ask again, with the same ids, while the daemon is busy.
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
        self._connections_max = connections_max
        self._pool = _Pool(connections_max)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that no call uses. The next call opens one again."""
        self._pool.close()

    def call(self, request: Request) -> Any:
        """Send a request and return its reply, of a kind that it expects. See the class for what is raised.

        The request gets the id of what it creates here, unless it has one.
        """
        check_call(request)
        return accepted(request, self._ask(Attempts(request, patient=True)))

    def ask(self, request: Request) -> Reply:
        """Send a request and return its reply, which may be an error, such as that the daemon is busy.

        Raises CannotConnectError if no reply came and nothing was changed, and OutcomeUnknownError if the request may
        have been carried out. Ctrl-C raises KeyboardInterrupt, or OutcomeUnknownError once a write was sent.
        """
        check_ask(request)
        return self._ask(Attempts(request))

    def ask_all(self, requests: Iterable[R]) -> Iterator[tuple[R, Reply]]:
        """Yield each request with its reply, in order. Up to 64 are sent together, so that they share a commit.

        What is not done because the connection breaks or the daemon is busy is sent again by itself, within
        ``timeout`` seconds. An error is yielded as the reply. Raises ValueError for ``amend``, ``annul`` and
        ``delete``, which must not be sent again, and what ``ask`` raises; those that were yielded are done.
        """
        rest = iter(requests)
        while batch := list(islice(rest, REQUESTS_IN_FLIGHT_MAX)):
            for request in batch:
                check_repeatable(request)
            all_attempts = [Attempts(request, patient=True) for request in batch]
            outcomes = self._exchange(batch, time.monotonic() + self.timeout)
            for request, attempts, outcome in zip(batch, all_attempts, outcomes, strict=True):
                yield request, self._settle(attempts, outcome, time.monotonic() + self.timeout)

    def follow(self, request: Request) -> Generator[Any, None, None]:
        """Yield the replies to a request that has many, until no more come, or the caller closes the generator.

        Raises RefusedError, and CannotConnectError when the connection ends or nothing comes for too long.
        """
        with closing(self.stream(request)) as replies:
            for reply in replies:
                if not isinstance(reply, PongReply):
                    yield accepted(request, reply)

    def stream(self, request: Request) -> Generator[Reply, None, NoReturn]:
        """Yield the replies to a request that has many, errors too, until the caller closes the generator.

        The daemon may have nothing to say until something changes, so a ``ping`` goes first: it has to be answered
        within ``timeout`` seconds. After that, a daemon that is there says so every 15 seconds, with a ``pong`` too.
        Raises CannotConnectError when no more replies can come.
        """
        check_follow(request)
        connection = Connection(self.where, self.token, self.timeout)
        deadline = time.monotonic() + self.timeout
        try:
            yield from connection.stream([Ping(), request], deadline, SILENCE_SECONDS_MAX)
        except NoReply as failure:
            raise end_of_stream(self.where, failure) from None
        raise end_of_stream(self.where)

    def _ask(self, attempts: Attempts) -> Reply:
        deadline = time.monotonic() + self.timeout
        [outcome] = self._exchange([attempts.request], deadline)
        return self._settle(attempts, outcome, deadline)

    def _settle(self, attempts: Attempts, outcome: Outcome, deadline: float) -> Reply:
        """Return the reply to a request that was tried once, with this outcome, and may be tried again."""
        while (pause := attempts.pause(outcome, deadline - time.monotonic())) is not None:
            try:
                time.sleep(pause)
                [outcome] = self._exchange([attempts.request], deadline)
            except KeyboardInterrupt:
                outcome = interruption()
        assert isinstance(outcome, Reply)
        return outcome

    def _exchange(self, requests: Sequence[Request], deadline: float) -> list[Outcome]:
        """Send requests together, and return for each its reply, or why there is none."""
        if self._pool.process != os.getpid():
            # After a fork: the threads that hold the other places are not here, and the replies would go to the parent.
            self._pool.close()
            self._pool = _Pool(self._connections_max)
        pool = self._pool
        if not pool.places.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return [NoReply(f"no connection to {self.where} was free within {self.timeout:g} s")] * len(requests)
        try:
            connection = pool.take() or Connection(self.where, self.token, self.timeout)
            outcomes = connection.exchange(requests, deadline)
            if connection.is_open:
                pool.idle.append(connection)
        finally:
            pool.places.release()
        return outcomes


class _Pool:
    """The connections of one process: those that no call uses, and the places for those in use."""

    def __init__(self, connections_max: int) -> None:
        self.process = os.getpid()
        self.idle: list[Connection] = []
        self.places = threading.Semaphore(connections_max)

    def take(self) -> Connection | None:
        """Return a connection that no call uses, if there is one."""
        try:
            return self.idle.pop()
        except IndexError:
            return None

    def close(self) -> None:
        """Close those that no call uses."""
        while connection := self.take():
            connection.close()
