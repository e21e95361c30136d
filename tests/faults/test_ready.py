"""What ``ready`` tells of a daemon whose database is away, cut off, or commits nothing, although nobody buys."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ctl
from tests.daemon import Connection, until, write_events
from tests.faults.fleet import Fleet
from tests.faults.proxy import Fault, Proxy
from tests.postgres import Postgres, query

READY = {"reply": "ready"}


def until_not_ready(client: Connection) -> str:
    """Return why it is not ready, once it is not."""
    until(lambda: client.ask("ready") != READY)
    refused = client.ask("ready")
    assert (refused["code"], refused["retry_after"]) == ("busy", 1)
    assert refused["message"].startswith("nothing can be sold now, so ask another daemon or try again: ")
    assert not client.ask("stats")["ready"]
    return str(refused["message"])


def until_ready(client: Connection) -> None:
    until(lambda: client.ask("ready") == READY)
    assert client.ask("stats")["ready"]


def test_a_daemon_is_not_ready_while_its_database_is_away(tmp_path: Path, bundled_postgres: Postgres) -> None:
    write_events(tmp_path, 10)
    with Fleet(tmp_path, bundled_postgres.new_database()) as fleet:
        daemon = fleet.start()
        with daemon.connect() as client:
            until_ready(client)
            bundled_postgres.stop("immediate")
            until_not_ready(client)
            refused = ctl("ready", port=daemon.port)
            assert (refused.returncode, refused.stdout) == (5, "")
            assert "cannot reach the database 127.0.0.1:" in refused.stderr
            assert refused.stderr.endswith("Is PostgreSQL running? (again after 1 s)\n")
            bundled_postgres.start()
            until_ready(client)
            assert client.ask("book 1 1")["reply"] == "booking"
        fleet.end()


@pytest.mark.parametrize("buys", [False, True])
def test_a_daemon_that_is_cut_off_is_not_ready_until_it_is_back(tmp_path: Path, database: str, buys: bool) -> None:
    # Over 5 s: the daemon waits 2 s for an answer before it is not ready, and 2 s for each connection that is frozen.
    write_events(tmp_path, 10)
    with Proxy(database) as proxy, Fleet(tmp_path, database) as fleet:
        daemon = fleet.start(url=proxy.url)
        with daemon.connect() as client, daemon.connect() as buyer:
            until_ready(client)
            proxy.inject([Fault("client", "byte", 0, 0.0, "part", 4)])
            if buys:
                buyer.send(b"book 1 1\n")
            assert " answer" in until_not_ready(client)
            until_ready(client)
            if buys:
                assert buyer.read()["available"] == 9
        fleet.end()


@pytest.fixture
def with_standbys(bundled_postgres: Postgres) -> Iterator[Postgres]:
    """A PostgreSQL whose commits do not wait for a standby when the test is over."""
    yield bundled_postgres
    set_standby(bundled_postgres, "")


def test_a_daemon_is_not_ready_while_its_standby_is_away(tmp_path: Path, with_standbys: Postgres) -> None:
    postgres = with_standbys
    write_events(tmp_path, 10)
    with Fleet(tmp_path, postgres.new_database()) as fleet:
        daemon = fleet.start("--queue-seconds-max", "1")
        with daemon.connect() as client, daemon.connect() as buyer, daemon.connect() as other:
            set_standby(postgres, "gone")
            buyer.send(b"book 1 2 --booking a\n")
            until_not_ready(client)
            # Polls go on, and clients see what is committed.
            assert client.ask("show 1")["available"] == 10
            refused = other.ask("book 1 1 --booking b")
            assert refused["code"] == "busy"
            assert "wait for an answer of the ledger" in refused["message"]
            set_standby(postgres, "")
            assert buyer.read()["available"] == 8
            until_ready(client)
            assert other.ask("book 1 1 --booking b")["version"] == 2
        fleet.end()


def set_standby(postgres: Postgres, name: str) -> None:
    """Let commits wait for a synchronous standby, or for none."""
    query(postgres.url("postgres"), f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    query(postgres.url("postgres"), "SELECT pg_reload_conf()")
