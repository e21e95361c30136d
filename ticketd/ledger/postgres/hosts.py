"""Finds the newest primary among the hosts of a database, and notices when there is a newer one.

Each host is asked by itself, so one that hangs does not keep the others from being heard.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import asyncpg

from ticketd.ledger.base import LedgerUnavailableError
from ticketd.ledger.postgres.cluster import CLUSTER, Cluster, left_behind, other_system
from ticketd.ledger.postgres.connection import PooledConnection, check_fitness, open_connection, translated_errors
from ticketd.ledger.postgres.url import Host, for_driver, hosts_of

log = logging.getLogger(__name__)

# For one host to accept a connection, to log in and to be checked. Each of these takes milliseconds.
HOST_SECONDS_MAX = 2.0
# Once a primary has answered, how long the others may still take to say that they are newer. What lives answers in
# milliseconds; a sale on a primary that was left behind is lost. It fits into the time of one try to get a connection.
OTHERS_SECONDS_MAX = 1.0
LOOK_EVERY_SECONDS = 1.0


# Makes an error from the name of a database, its cluster, and what contradicts it.
_Refusal = Callable[[str, Cluster, str], LedgerUnavailableError]


class _Primary(NamedTuple):
    cluster: Cluster
    host: Host


class Hosts:
    """The hosts of the database ``name`` at ``url``. ``on_newer`` is called when a newer primary was seen than before.

    Raises ValueError if the URL cannot be used.
    """

    def __init__(self, url: str, name: str, on_newer: Callable[[], None] = lambda: None) -> None:
        self._name = name
        self._url = for_driver(url)
        self._hosts = hosts_of(url)
        self._on_newer = on_newer
        # The newest primary that was seen.
        self._newest: _Primary | None = None
        # The host to connect to, unless it must be looked for.
        self._in_use: Host | None = None
        self._search: asyncio.Task[Host] | None = None
        self._refused: set[_Primary] = set()
        # The time limits of the attempts to connect that are under way.
        self._attempts: dict[asyncio.Timeout, Host] = {}
        self._watching: list[asyncio.Task[None]] = []

    @property
    def timeline(self) -> int:
        """The highest timeline that was seen, or 0."""
        return self._newest.cluster.timeline if self._newest else 0

    async def connect(self) -> PooledConnection:
        """Return a connection to the newest primary, which is fit for a ledger.

        Raises LedgerUnavailableError. Takes at most HOST_SECONDS_MAX if a host is in use, and twice that if not.
        """
        host = self._in_use or await self._find()
        try:
            connection = await self._open(host)
        except BaseException:
            self.doubt()
            raise
        try:
            self._admit(_Primary(connection.cluster, host))
        except LedgerUnavailableError:
            connection.terminate()
            self.doubt()
            raise
        self._in_use = host
        return connection

    def doubt(self) -> None:
        """Ask all hosts again before the next connection: one of them may have been promoted."""
        self._in_use = None

    def watch(self) -> None:
        """From now on, look for a newer primary, each second, on the hosts that are not in use."""
        if len(self._hosts) > 1:
            self._watching = [asyncio.create_task(self._watch(host)) for host in self._hosts]
            for task in self._watching:
                task.add_done_callback(_raise_bug)

    def close(self) -> None:
        """End what was begun."""
        for task in self._watching:
            task.cancel()
        if self._search:
            self._search.cancel()

    async def _find(self) -> Host:
        """Return the host of the newest primary."""
        if len(self._hosts) == 1:
            return self._hosts[0]
        if not self._search:
            # It goes on when who asked for it has given up, so that the next one finds its result.
            self._search = asyncio.create_task(self._ask_all())
            self._search.add_done_callback(self._end_search)
        return await asyncio.shield(self._search)

    def _end_search(self, search: asyncio.Task[Host]) -> None:
        self._search = None
        if not search.cancelled() and not search.exception():
            self._in_use = search.result()

    async def _ask_all(self) -> Host:
        loop = asyncio.get_running_loop()
        asked = [loop.create_task(self._ask(host)) for host in self._hosts]
        pending, deadline = set(asked), math.inf
        try:
            while pending and (left := deadline - loop.time()) > 0:
                seconds = None if deadline == math.inf else left
                done, pending = await asyncio.wait(pending, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                primaries = [each.result() for each in done if not each.exception()]
                if primaries:
                    deadline = min(deadline, loop.time() + OTHERS_SECONDS_MAX)
                if self._newest and any(each.cluster.timeline > self.timeline for each in primaries):
                    break
        finally:
            for task in pending:
                task.cancel()
        return self._choose(asked)

    def _choose(self, asked: list[asyncio.Task[_Primary]]) -> Host:
        last = self._newest and self._newest.host
        done = [task for task in asked if task.done() and not task.cancelled()]
        primaries = [task.result() for task in done if not task.exception()]
        if not primaries:
            reasons = [str(task.exception()) for task in done]
            raise LedgerUnavailableError(f"the database {self._name} has no primary now: {'; '.join(reasons)}")
        # Of one server with two addresses, the address that was good last.
        newest = max(primaries, key=lambda each: (each.cluster.timeline, each.host == last))
        for other in primaries:
            if not self._newest and other.cluster.system != newest.cluster.system:
                raise other_system(self._name_of(newest.host), newest.cluster, f"{other.host} is on {other.cluster}")
        self._admit(newest)
        return newest.host

    async def _ask(self, host: Host) -> _Primary:
        """Return what a host is. Raises LedgerUnavailableError if it is not a primary of the system that is known."""
        connection = await self._open(host)
        connection.terminate()
        primary = _Primary(connection.cluster, host)
        self._check_system(primary)
        return primary

    async def _open(self, host: Host) -> PooledConnection:
        name = self._name_of(host)
        with translated_errors(name):
            async with asyncio.timeout(HOST_SECONDS_MAX) as limit:
                self._attempts[limit] = host
                try:
                    connection = await open_connection(self._url, host)
                    try:
                        await check_fitness(connection, name)
                    except BaseException:
                        connection.terminate()
                        raise
                finally:
                    del self._attempts[limit]
        return connection

    def _admit(self, primary: _Primary) -> None:
        """Remember the newest primary. Raises LedgerUnavailableError if there is a newer one, or another system."""
        self._check_system(primary)
        newest = self._newest
        if newest and primary.cluster.timeline < newest.cluster.timeline:
            raise self._refusal(left_behind, primary, newest)
        self._newest = primary
        if newest and primary.cluster.timeline > newest.cluster.timeline:
            log.warning("%s was promoted: it is on %s. Sales go on there", primary.host, primary.cluster)
            self._in_use = primary.host
            for limit, host in self._attempts.items():
                if host != primary.host:
                    limit.reschedule(asyncio.get_running_loop().time())
            self._on_newer()

    def _check_system(self, primary: _Primary) -> None:
        newest = self._newest
        if newest and primary.cluster.system != newest.cluster.system:
            raise self._refusal(other_system, primary, newest)

    def _refusal(self, why: _Refusal, primary: _Primary, newest: _Primary) -> LedgerUnavailableError:
        """Return the error about a primary that must not be sold from. The log gets it once."""
        refusal = why(
            self._name_of(primary.host), primary.cluster, f"this daemon has sold from {newest.host} on {newest.cluster}"
        )
        if primary not in self._refused:
            self._refused.add(primary)
            log.warning("%s", refusal)
        return refusal

    async def _watch(self, host: Host) -> None:
        """Look whether a host is a newer primary, whenever it is not in use, on a connection that is kept."""
        connection: PooledConnection | None = None
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_SECONDS)
                try:
                    if host != self._in_use:
                        connection = await self._look(host, connection)
                        continue
                except (LedgerUnavailableError, asyncpg.PostgresError):
                    # A host that is away is looked at again. What ``_admit`` refuses is in the log.
                    pass
                if connection:
                    connection.terminate()
                    connection = None
        finally:
            if connection:
                connection.terminate()

    async def _look(self, host: Host, kept: PooledConnection | None) -> PooledConnection:
        """Look at a host once, and return the connection to it."""
        with translated_errors(self._name_of(host)):
            async with asyncio.timeout(HOST_SECONDS_MAX):
                connection = kept or await open_connection(self._url, host)
                try:
                    [(system, timeline)] = await connection.fetch(f"SELECT {CLUSTER}")
                    if timeline is not None:
                        self._admit(_Primary(Cluster(system, timeline), host))
                except BaseException:
                    connection.terminate()
                    raise
        return connection

    def _name_of(self, host: Host) -> str:
        return self._name if len(self._hosts) == 1 else f"{host}/{self._name.rpartition('/')[2]}"


def _raise_bug(task: asyncio.Task[None]) -> None:
    """Raise what a task raises where the loop sees it."""
    if not task.cancelled():
        task.result()
