"""``ticketd migrate``, and daemons whose role has fewer rights than the owner of the tables."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from tests.daemon import Daemon, running
from tests.ledger.sale import EVENTS, SUMMARY, events_on_sale, ticketd
from tests.postgres import Postgres, query
from ticketd.ledger.postgres.url import public_name


@pytest.fixture
def empty(bundled_postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database, for its owner."""
    url = bundled_postgres.new_database()
    yield url
    bundled_postgres.give_back(url)


@pytest.fixture
def role(bundled_postgres: Postgres) -> Iterator[str]:
    """A role that owns nothing and has no rights yet. Its name needs quotes in SQL."""
    name = f"Sales-{uuid4().hex}"
    query(bundled_postgres.url("postgres"), f'CREATE ROLE "{name}" LOGIN')
    yield name
    query(bundled_postgres.url("postgres"), f'DROP ROLE "{name}"')


# In this order: available, held, sold, version, sold elsewhere, amendments.
COLUMNS = "id, name, date, capacity, available, held, sold, version, sold_elsewhere, paused, amendments"
SOLD = f"INSERT INTO ticketd.events ({COLUMNS}) VALUES" + ",".join(
    f"('{id_}', 'Jazz', now(), 2, {available}, {held}, {sold}, {version}, {elsewhere}, false, {amendments})"
    for id_, available, held, sold, version, elsewhere, amendments in (
        ("new", 2, 0, 0, 3, 0, 3),
        ("sold", 1, 0, 1, 1, 0, 0),
        ("elsewhere", 1, 0, 1, 0, 1, 0),
        ("held", 1, 1, 0, 1, 0, 0),
        ("released", 2, 0, 0, 3, 0, 1),
    )
)


@pytest.fixture
def granted(empty: str, role: str) -> Iterator[str]:
    """The URL of a ledger for a role that may sell, and no more."""
    assert migrate(empty, "--grant", role)[0] == 0
    yield as_role(empty, role)
    query(empty, f'DROP OWNED BY "{role}"')


def as_role(url: str, role: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()


def ran(*arguments: str) -> tuple[int, str]:
    """Run ``ticketd``; return its status, and what it said."""
    done = ticketd(*arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def migrate(*arguments: str) -> tuple[int, str]:
    """Run ``ticketd migrate``; return its status, and what it said."""
    return ran("migrate", *arguments)


def refused(folder: Path, url: str) -> str:
    """Return what a daemon says that cannot start on a database."""
    daemon = Daemon("--port", "0", "--events", str(folder / "events.json"), "--ledger", url)
    assert daemon.wait() == 5, daemon.lines
    return daemon.lines[-1]


def test_a_daemon_with_only_the_granted_rights_does_everything(granted: str, tmp_path: Path) -> None:
    with running(tmp_path, "--ledger", granted) as daemon, daemon.connect() as connection:
        ask = connection.ask
        assert ask("create Gala 2027-03-11T20:00:00Z 10 --id gala")["reply"] == "event"
        assert ask("amend gala --capacity 11")["available"] == 11
        ticket, _ = ask("book gala 2 --booking a")["tickets"]
        assert ask("redeem " + ticket)["state"] == "redeemed"
        assert ask("hold gala 2 --booking b")["state"] == "held"
        assert ask("confirm b")["state"] == "confirmed"
        assert ask("cancel b")["state"] == "cancelled"
        assert ask("hold gala 1 --booking c")["state"] == "held"
        assert ask("release c")["state"] == "released"
        assert ask("annul " + ticket)["state"] == "valid"
        assert ask("reissue " + ticket)["state"] == "valid"
        assert ask("hold gala 1 --booking d")["state"] == "held"
        assert ask("extend d 3600")["state"] == "held"
        assert ask("release d")["state"] == "released"
        assert ask("hold gala 11 --booking e")["code"] == "sold_out"
        assert ask("hold gala 9 --booking e")["state"] == "held"
        assert ask("wait gala 9 --booking f")["position"] == 1
        assert ask("wait gala 3 --booking g")["position"] == 2
        assert ask("release f")["state"] == "released"
        assert ask("show g")["position"] == 1
        assert ask("release e")["state"] == "released"
        assert ask("release g")["state"] == "released"
        assert ask("create Mistake 2027-03-11T20:00:00Z 10 --id mistake")["reply"] == "event"
        assert ask("delete mistake")["reply"] == "event"
        assert ask("bookings")["bookings"][0]["id"] == "a"
        assert ask("show gala")["available"] == 9
    assert ran("check", granted)[0] == 0


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE ticketd.bookings",
        "DROP SCHEMA ticketd CASCADE",
        "TRUNCATE ticketd.bookings",
        "DELETE FROM ticketd.bookings",
        "DELETE FROM ticketd.events",
        "DELETE FROM ticketd.redemptions",
        "UPDATE ticketd.redemptions SET at = 0",
        "DELETE FROM ticketd.ledger",
        "ALTER TABLE ticketd.events DROP CONSTRAINT events_check",
        "CREATE TABLE ticketd.another (id text)",
        "CREATE SCHEMA another",
    ],
)
def test_the_role_of_a_daemon_cannot_destroy_a_sale(empty: str, granted: str, statement: str) -> None:
    query(empty, SOLD)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        query(granted, statement)


@pytest.mark.parametrize("used", ["sold", "elsewhere", "held", "released"])
def test_the_role_of_a_daemon_deletes_only_what_never_sold(empty: str, granted: str, used: str) -> None:
    query(empty, SOLD)
    delete = "DELETE FROM ticketd.events WHERE id = $1 RETURNING id"
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=f"tickets of event {used} were sold or held"):
        query(granted, delete, used)
    assert query(granted, delete, "new")
    # The owner may forget even what was sold.
    assert query(empty, delete, used)
    assert {row["event"] for row in query(empty, "SELECT event FROM ticketd.removals")} == {"new", used}


def test_a_role_without_rights_is_told_who_creates_the_tables(empty: str, role: str, tmp_path: Path) -> None:
    line = refused(tmp_path, as_role(empty, role))
    address = empty.rpartition("@")[2]
    assert f"as the owner, run: ticketd migrate postgresql://OWNER@{address} --grant {role}" in line
    assert "permission denied for database" in line


def test_a_role_that_was_not_granted_the_tables_is_told(empty: str, role: str, tmp_path: Path) -> None:
    assert migrate(empty) == (0, f"the tables of postgresql://{empty.rpartition('@')[2]} are up to date\n")
    line = refused(tmp_path, as_role(empty, role))
    assert ("permission denied for schema" in line, f"--grant {role}" in line) == (True, True), line


def test_a_role_cannot_upgrade_older_tables_and_is_told(granted: str, empty: str, role: str, tmp_path: Path) -> None:
    query(empty, "UPDATE ticketd.ledger SET schema_version = 1")
    line = refused(tmp_path, granted)
    assert ("cannot create, upgrade or use" in line, "ticketd migrate postgresql://OWNER@" in line) == (True, True)
    assert query(empty, "SELECT schema_version FROM ticketd.ledger")[0][0] == 1


def test_a_check_without_rights_calls_nothing_wrong(granted: str, empty: str, role: str) -> None:
    for revoked in ("SELECT ON ticketd.bookings", "USAGE ON SCHEMA ticketd"):
        query(empty, f'REVOKE {revoked} FROM "{role}"')
        status, said = ran("check", granted)
        assert (status, "could not be checked" in said, "permission denied for" in said) == (5, True, True), said
        assert f"as the owner, run: ticketd migrate postgresql://OWNER@{public_name(empty)} --grant {role}" in said
        assert ("wrong" in said, "whole" in said, "restore" in said) == (False, False, False), said


async def test_the_owner_moves_a_sale_to_which_daemons_have_rights(sale: str, role: str, empty: str) -> None:
    daemons = as_role(empty, role)
    status, said = await asyncio.to_thread(ran, "move", sale, daemons)
    assert (status, f"--grant {role}. Nothing was moved\n" in said, "cut short" in said) == (5, True, False), said
    assert (await asyncio.to_thread(migrate, empty, "--grant", role))[0] == 0
    status, said = await asyncio.to_thread(ran, "move", sale, daemons)
    assert (status, "only the owner" in said, ". Nothing was moved\n" in said) == (5, True, True), said
    assert await events_on_sale(sale) == EVENTS
    assert (await asyncio.to_thread(ran, "move", sale, empty))[1].startswith(SUMMARY)
    assert await events_on_sale(daemons) == EVENTS


def test_an_owner_may_migrate_while_daemons_sell(granted: str, empty: str, role: str, tmp_path: Path) -> None:
    with running(tmp_path, "--ledger", granted) as daemon, daemon.connect() as connection:
        connection.ask("create Gala 2027-03-11T20:00:00Z 10 --id gala")
        status, said = migrate(empty, "--grant", role)
        assert (status, f"up to date; {role} may sell" in said) == (0, True), said
        assert connection.ask("book gala 1")["reply"] == "booking"


def test_only_the_owner_can_grant(granted: str, role: str) -> None:
    status, said = migrate(granted, "--grant", role)
    assert (status, "only the owner of the ledger" in said) == (5, True), said


def test_a_role_that_does_not_exist_is_named(empty: str) -> None:
    status, said = migrate(empty, "--grant", "nobody-of-this-name")
    assert (status, 'there is no role "nobody-of-this-name"' in said) == (5, True), said
    assert query(empty, "SELECT to_regclass('ticketd.ledger')")[0][0] is None


@pytest.mark.parametrize("url", ["events.db", "redis://127.0.0.1/0", "postgresql:/sales:secret@127.0.0.1/db", ""])
def test_what_is_not_the_url_of_a_database_is_not_migrated(url: str) -> None:
    status, said = migrate(url)
    assert (status, "ticketd migrate: error: argument URL: it" in said, "secret" in said) == (2, True, False), said


def test_connections_of_two_days_ago_are_forgotten(granted: str, empty: str, tmp_path: Path) -> None:
    add = "INSERT INTO ticketd.commits (connection, at, fenced) VALUES ($1, now() - $2::int * interval '1 hour', $3)"
    for hours in (1, 48):
        for fenced in (True, False):
            query(empty, add, f"{hours} {fenced}", hours, fenced)
    with running(tmp_path, "--ledger", granted):
        left = query(empty, "SELECT connection FROM ticketd.commits ORDER BY connection")
    assert [row[0] for row in left] == ["1 False", "1 True"]
