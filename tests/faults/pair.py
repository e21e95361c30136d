"""A primary in PostgreSQL and its synchronous standby, whose roles swap, and what an operator does with them."""

import random
from contextlib import ExitStack
from urllib.parse import urlencode, urlsplit

from tests.daemon import until
from tests.faults.proxy import Proxy
from tests.postgres import Postgres, query

# A standby that was away follows again at once, and a server that was killed starts in less than a second. The log is
# small, since each new standby copies it.
SETTINGS = {
    "wal_keep_size": "128MB",
    "max_wal_size": "128MB",
    "wal_retrieve_retry_interval": "100ms",
    "recovery_init_sync_method": "syncfs",
}


class Pair:
    """A primary and its synchronous standby, each with a proxy."""

    def __init__(self) -> None:
        with ExitStack() as exits:
            self.primary = exits.enter_context(Postgres(None, **SETTINGS))
            self.standby = exits.enter_context(Postgres(self.primary, **SETTINGS))
            servers = (self.primary, self.standby)
            self.proxies = {server: exits.enter_context(Proxy(server.url("postgres"))) for server in servers}
            self.follow()
            self._exits = exits.pop_all()

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def url(self, database: str, chance: random.Random, **parameters: str) -> str:
        """Return a URL as people may write it: the hosts in any order, through the proxies or not."""
        directly = [server.url(database) for server in self.proxies]
        urls = chance.choice([directly, [proxy.url for proxy in self.proxies.values()]])
        hosts = ",".join(f"127.0.0.1:{urlsplit(url).port}" for url in chance.sample(urls, len(urls)))
        return f"postgresql://postgres@{hosts}/{database}?{urlencode(parameters)}"

    def promote(self) -> None:
        """Make the standby the primary."""
        self.primary, self.standby = self.standby, self.primary
        self.primary.promote()

    def rebuild(self) -> None:
        """Make the old primary, which was killed, the synchronous standby of the new one."""
        self.proxies[self.standby].heal()
        self.standby.rebuild_as_standby_of(self.primary)
        self.follow()

    def follow(self) -> None:
        """Let every commit wait for the standby, once that follows."""
        url = self.primary.url("postgres")
        until(lambda: query(url, "SELECT FROM pg_stat_replication WHERE state = 'streaming'"))
        self.primary.configure(synchronous_standby_names="*")
        until(lambda: query(url, "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'"))
        # Commits wait once the process that does this has read the setting.
        query(url, "CHECKPOINT")
