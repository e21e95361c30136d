"""What a daemon says that cannot start on a database."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.daemon import Daemon, running
from tests.ledger.sale import open_ledger, ticketd
from tests.postgres import Postgres, Server, query
from ticketd.ledger.postgres.url import public_name


def failed(*arguments: str) -> tuple[int, str]:
    """Return exit status and last line of a daemon that cannot start."""
    daemon = Daemon("--port", "0", *arguments)
    return daemon.wait(), daemon.lines[-1]


def test_a_database_that_would_lose_sales_is_refused(tmp_path: Path) -> None:
    for settings in ({"fsync": "off"}, {"full_page_writes": "off"}):
        with Postgres(None, **settings) as careless:
            status, line = failed("--ledger", careless.new_database(), "--events", str(tmp_path / "events.json"))
        assert (status, f"({next(iter(settings))} is off)" in line) == (5, True), line


def test_a_standby_is_refused_and_points_to_the_primary(bundled_postgres: Postgres, tmp_path: Path) -> None:
    with Postgres(standby_of=bundled_postgres) as standby:
        status, line = failed("--ledger", standby.url("postgres"), "--events", str(tmp_path / "events.json"))
    assert (status, "is a standby" in line, "primary" in line) == (5, True, True), line


def test_a_ledger_of_a_newer_ticketd_is_refused_and_left_alone(database: str, tmp_path: Path) -> None:
    with running(tmp_path, "--ledger", database) as daemon:
        daemon.end()
    query(database, "UPDATE ticketd.ledger SET schema_version = 99")
    status, line = failed("--ledger", database, "--events", str(tmp_path / "events.json"))
    said = f"the ledger in the database {public_name(database)} has schema 99, and this ticketd knows none after"
    assert (status, said in line, "start a newer ticketd" in line) == (5, True, True), line
    assert query(database, "SELECT schema_version FROM ticketd.ledger")[0][0] == 99


async def test_a_ledger_has_one_row(database: str) -> None:
    await (await open_ledger(database)).close()
    with pytest.raises(asyncpg.UniqueViolationError):
        query(database, "INSERT INTO ticketd.ledger SELECT * FROM ticketd.ledger")


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("ALTER TABLE ticketd.redemptions RENAME TO old", "table redemptions is missing"),
        ("DROP TABLE ticketd.commits", "table commits is missing"),
        ("DROP TABLE ticketd.ledger", "table ledger is missing"),
        ("ALTER FUNCTION ticketd.save RENAME TO saved", "function save is missing"),
        ("DELETE FROM ticketd.ledger", "table ledger has 0 rows instead of one"),
        (
            "DROP INDEX ticketd.one_row; INSERT INTO ticketd.ledger SELECT * FROM ticketd.ledger",
            "table ledger has 2 rows instead of one",
        ),
    ],
)
async def test_a_schema_that_is_not_whole_is_refused(statement: str, fault: str, database: str, tmp_path: Path) -> None:
    await (await open_ledger(database)).close()
    for each in statement.split("; "):
        query(database, each)
    name = public_name(database)
    said = f"the schema ticketd in the database {name} is not whole: {fault}; restore it, or use an empty database"
    status, line = await asyncio.to_thread(failed, "--ledger", database, "--events", str(tmp_path / "events.json"))
    assert (status, line) == (5, f"ticketd: {said}")
    for arguments in (["migrate", database], ["move", database, str(tmp_path / "to.db")], ["check", database]):
        done = await asyncio.to_thread(ticketd, *arguments)
        assert (done.returncode, said in done.stdout + done.stderr) == (5, True), done
        assert "Traceback" not in done.stderr


def test_an_empty_schema_gets_its_tables(database: str, tmp_path: Path) -> None:
    query(database, "CREATE SCHEMA ticketd")
    query(database, "CREATE TABLE ticketd.notes ()")
    with running(tmp_path, "--ledger", database) as daemon:
        assert daemon.end() == 0


def test_a_database_that_is_not_utf_8_is_refused(postgres: Server, tmp_path: Path) -> None:
    query(postgres.url("postgres"), "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    try:
        status, line = failed("--ledger", postgres.url("latin"), "--events", str(tmp_path / "events.json"))
    finally:
        postgres.drop(postgres.url("latin"))
    assert (status, "create a database in UTF8" in line) == (5, True), line


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (
            "postgresql://nobody:secret@127.0.0.1:1/db",
            "cannot reach the database 127.0.0.1:1/db (connection refused). Is",
        ),
        ("postgresql://nobody:secret@host.invalid/db", "cannot reach the database host.invalid/db"),
    ],
)
def test_an_unreachable_database_is_named_without_its_password(url: str, why: str, tmp_path: Path) -> None:
    status, line = failed("--ledger", url, "--events", str(tmp_path / "events.json"))
    assert (status, why in line, "secret" in line) == (5, True, False), line


def test_a_database_that_does_not_exist_is_named(postgres: Server, tmp_path: Path) -> None:
    status, line = failed("--ledger", postgres.url("not_there"), "--events", str(tmp_path / "events.json"))
    assert (status, 'database "not_there" does not exist' in line) == (5, True), line


def test_a_missing_driver_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "asyncpg.py").write_text("raise ModuleNotFoundError(name='asyncpg')")
    paths = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    daemon = Daemon("--port", "0", "--ledger", "postgresql://127.0.0.1/db", env=paths, cwd=tmp_path, anew=True)
    assert (daemon.wait(), daemon.lines) == (
        5,
        ["ticketd: asyncpg is missing, and selling from PostgreSQL needs it: pip install asyncpg"],
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://sales:sec/ret@127.0.0.1:5432/db",
        "postgresql://sales:12/sec#ret@127.0.0.1:5432/db",
        "postgresql://sales:sec?ret@127.0.0.1/db",
        "postgresql:/sales:secret@127.0.0.1/db",
    ],
)
def test_an_invalid_database_url_is_refused_without_its_password(url: str) -> None:
    for daemon in (Daemon("--ledger", url), Daemon(env={"TICKETD_LEDGER": url})):
        assert daemon.wait() == 2
        assert "is not the URL of a database; write postgresql://user:password@" in daemon.lines[-1]
        assert not any("sec" in line or "ret" in line for line in daemon.lines)


def test_an_empty_ledger_setting_is_refused() -> None:
    for daemon in (Daemon("--ledger", ""), Daemon(env={"TICKETD_LEDGER": ""})):
        assert (daemon.wait(), "is empty" in daemon.lines[-1]) == (2, True)
