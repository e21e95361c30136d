"""Finds the newest primary among the hosts of a database, and notices when there is a newer one.

All hosts are asked at once, each on a connection of its own, so one that hangs does not delay the others.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import NamedTuple

import asyncpg

from ticketd.ledger.base import EventsLockedError, LedgerUnavailableError, StorageFullError
from ticketd.ledger.postgres.cluster import CLUSTER, Cluster, left_behind, other_system
from ticketd.ledger.postgres.connection import PooledConnection, check_fitness, open_connection, translated_errors
from ticketd.ledger.postgres.url import Host, for_driver, hosts_of

log = logging.getLogger(__name__)

# For one host to accept a connection, to log in and to be checked. Each of these takes milliseconds.
HOST_SECONDS_MAX = 2.0
# Once a primary has answered, how long to wait for the others, one of which may be a newer primary: what is sold on an
# older one is lost. Hosts that work answer in milliseconds.
OTHERS_SECONDS_MAX = 1.0
# How often to look at each host that is not in use.
LOOK_EVERY_SECONDS = 1.0

# Makes an error about a database from its name, its cluster, and what contradicts that.
_MakeError = Callable[[str, Cluster, str], LedgerUnavailableError]


class _Primary(NamedTuple):
    cluster: Cluster
    host: Host


class Hosts:
    """The hosts of the database ``name`` at ``url``. ``on_newer`` is called when a primary is newer than any before.

    Raises ValueError if the URL cannot be used.
    """

    def __init__(self, url: str, name: str, on_newer: Callable[[], None] = lambda: None) -> None:
        self._name = name
        self._url = for_driver(url)
        self._hosts = hosts_of(url)
        self._on_newer = on_newer
        # The newest primary that was seen; None before the first.
        self._newest: _Primary | None = None
        # The host to connect to; None if all hosts must be asked first.
        self._in_use: Host | None = None
        self._search: asyncio.Task[Host] | None = None
        # Primaries that were refused, which the log says once.
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
            self.search_again()
            raise
        try:
            self._accept_as_newest(_Primary(connection.cluster, host))
        except LedgerUnavailableError:
            connection.terminate()
            self.search_again()
            raise
        self._in_use = host
        return connection

    def search_again(self) -> None:
        """Ask all hosts again before the next connection: one of them may have been promoted."""
        self._in_use = None

    def watch(self) -> None:
        """From now on, look every LOOK_EVERY_SECONDS whether a host that is not in use is a newer primary."""
        if len(self._hosts) > 1:
            self._watching = [asyncio.create_task(self._watch_host(host)) for host in self._hosts]
            for task in self._watching:
                task.add_done_callback(_raise_bug)

    def close(self) -> None:
        """End the search and the watching."""
        for task in self._watching:
            task.cancel()
        if self._search:
            self._search.cancel()

    async def _find(self) -> Host:
        """Return the host of the newest primary. Raises LedgerUnavailableError."""
        if len(self._hosts) == 1:
            return self._hosts[0]
        if not self._search:
            # If its caller gives up, the search goes on, so that the next caller gets the result.
            self._search = asyncio.create_task(self._ask_all_hosts())
            self._search.add_done_callback(self._note_found)
        return await asyncio.shield(self._search)

    def _note_found(self, search: asyncio.Task[Host]) -> None:
        self._search = None
        if not search.cancelled() and not search.exception():
            self._in_use = search.result()

    async def _ask_all_hosts(self) -> Host:
        """Return the host of the newest primary. Raises LedgerUnavailableError.

        Waits for all answers, but for at most OTHERS_SECONDS_MAX after that of a primary. The answer of a primary that
        is newer than any before is enough.
        """
        loop = asyncio.get_running_loop()
        asked = [loop.create_task(self._ask_host(host)) for host in self._hosts]
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
        """Return the host of the newest primary of those that answered. Raises LedgerUnavailableError."""
        last = self._newest and self._newest.host
        done = [task for task in asked if task.done() and not task.cancelled()]
        primaries = [task.result() for task in done if not task.exception()]
        if not primaries:
            reasons = [str(task.exception()) for task in done]
            raise LedgerUnavailableError(f"no host of the database {self._name} can be sold from: {'; '.join(reasons)}")
        # If they are one server with two addresses, the address that was used last.
        newest = max(primaries, key=lambda each: (each.cluster.timeline, each.host == last))
        for other in primaries:
            if not self._newest and other.cluster.system != newest.cluster.system:
                raise other_system(self._name_of(newest.host), newest.cluster, f"{other.host} is on {other.cluster}")
        self._accept_as_newest(newest)
        return newest.host

    async def _ask_host(self, host: Host) -> _Primary:
        """Return the primary on a host.

        Raises LedgerUnavailableError if there is none, or it is not fit for a ledger, or of another system than before.
        """
        connection = await self._open(host)
        connection.terminate()
        primary = _Primary(connection.cluster, host)
        self._check_system(primary)
        return primary

    async def _open(self, host: Host) -> PooledConnection:
        """Return a connection to a primary that is fit for a ledger. Raises the errors of ``translated_errors``."""
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

    def _accept_as_newest(self, primary: _Primary) -> None:
        """Remember that this is the newest primary.

        Raises LedgerUnavailableError if a newer one was seen, or one of another system.
        """
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
        """Raise LedgerUnavailableError if the primaries that were seen before are of another system."""
        newest = self._newest
        if newest and primary.cluster.system != newest.cluster.system:
            raise self._refusal(other_system, primary, newest)

    def _refusal(self, make_error: _MakeError, primary: _Primary, newest: _Primary) -> LedgerUnavailableError:
        """Return the error about a primary that must not be sold from. The log gets it once."""
        refusal = make_error(
            self._name_of(primary.host), primary.cluster, f"this daemon has sold from {newest.host} on {newest.cluster}"
        )
        if primary not in self._refused:
            self._refused.add(primary)
            log.warning("%s", refusal)
        return refusal

    async def _watch_host(self, host: Host) -> None:
        """While a host is not in use, look again and again whether it is a newer primary, on one connection."""
        connection: PooledConnection | None = None
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_SECONDS)
                try:
                    if host != self._in_use:
                        connection = await self._look_at(host, connection)
                        continue
                except (LedgerUnavailableError, EventsLockedError, StorageFullError, asyncpg.PostgresError):
                    # A host that is away is looked at again. If it is refused, the log has it.
                    pass
                if connection:
                    connection.terminate()
                    connection = None
        finally:
            if connection:
                connection.terminate()

    async def _look_at(self, host: Host, kept: PooledConnection | None) -> PooledConnection:
        """Accept the primary on a host, if there is one. Return the connection: the one that was kept, or a new one.

        Raises LedgerUnavailableError and asyncpg.PostgresError. Takes at most HOST_SECONDS_MAX.
        """
        with translated_errors(self._name_of(host)):
            async with asyncio.timeout(HOST_SECONDS_MAX):
                connection = kept or await open_connection(self._url, host)
                try:
                    [(system, timeline)] = await connection.fetch(f"SELECT {CLUSTER}")
                    if timeline is not None:
                        self._accept_as_newest(_Primary(Cluster(system, timeline), host))
                except BaseException:
                    connection.terminate()
                    raise
        return connection

    def _name_of(self, host: Host) -> str:
        """Return the name of the database on a host in messages."""
        return self._name if len(self._hosts) == 1 else f"{host}/{self._name.rpartition('/')[2]}"


def _raise_bug(task: asyncio.Task[None]) -> None:
    """Raise the exception that ended a task, so that the loop's exception handler gets it."""
    if not task.cancelled():
        task.result()
