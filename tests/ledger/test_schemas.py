"""A ledger of an older schema, kept as an older ticketd left it, is migrated at the start: whole, or not at all."""

import itertools
import random
import re
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.faults.disk import Call, Content, Contents, DeadError, Disk, RealDisk, plugged
from tests.faults.scenario import LEDGER
from tests.ledger.asking import faults_of
from tests.ledger.sale import change, commit, ticketd
from tests.ledgers import COMMIT_SECONDS_MAX
from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.embedded.files import load_checksums, load_digests
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.ledger.embedded.load import _OWNED
from ticketd.ledger.embedded.opening import Use, open_ledger
from ticketd.ledger.embedded.schema import SCHEMA_VERSION
from ticketd.ledger.rows import TABLES
from ticketd.model import milliseconds
from ticketd.wire.requests import Wait

KEPT = Path(__file__).parent / "kept"
# The oldest one takes all steps. The last commit of each is in the log only.
OLD_VERSION, OLD_COMMITS = 5, 34
OLD_VERSIONS = (OLD_VERSION, 6)
# One of its holds ends on the next day.
BEFORE_HOLD_ENDS = milliseconds(datetime(2026, 11, 27, 12, tzinfo=UTC))
# The columns that the old ledgers have. Those of schema 6 have names, too.
NEW = {"actor", "waiting"}
COLUMNS = {table.name: [name for name in table.columns.split(", ") if name not in NEW] for table in TABLES}
SELECTS = {table.name: f"SELECT {', '.join(COLUMNS[table.name])} FROM {{}} ORDER BY {table.order}" for table in TABLES}
ACTORS = ("SELECT id, actor FROM bookings", "SELECT ticket, number, actor FROM redemptions")

Rows = dict[str, list[tuple[Any, ...]]]


def old_files(version: int) -> dict[str, bytes]:
    return {end: (KEPT / f"schema-{version}.db{end}").read_bytes() for end in ("", "-wal", "-seal")}


def put_old(folder: Path, version: int = OLD_VERSION) -> Path:
    """Put an old ledger into a folder, and return its path."""
    for end, data in old_files(version).items():
        (folder / f"events.db{end}").write_bytes(data)
    return folder / "events.db"


def rows_of(connection: apsw.Connection | sqlite3.Connection) -> Rows:
    return {name: [*connection.execute(select.format(name))] for name, select in SELECTS.items()}


def old_rows_of(path: Path) -> Rows:
    """Return the rows of an old ledger; it is folded by that."""
    with closing(sqlite3.connect(path)) as connection:
        rows = rows_of(connection)
    assert [len(rows[name]) for name in ("events", "bookings", "redemptions", "removals")] == [3, 11, 6, 2]
    assert {row[COLUMNS["bookings"].index("state")] for row in rows["bookings"]} == {
        *("held", "confirmed", "released", "expired", "cancelled")
    }
    return rows


@pytest.fixture(scope="module")
def old_rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return old_rows_of(put_old(tmp_path_factory.mktemp("old")))


def version_of(path: Path) -> int:
    with closing(apsw.Connection(str(path))) as connection:
        return int(connection.pragma("user_version"))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("version", OLD_VERSIONS)
async def test_an_older_ledger_is_migrated_and_sells(version: int, tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    before = put_old(tmp_path / "before", version)
    path = put_old(tmp_path, version)
    ledger = EmbeddedLedger(path, COMMIT_SECONDS_MAX, lambda: BEFORE_HOLD_ENDS)
    await commit(ledger, Wait("blues", 3, 60, "waits"), "box-1")
    await ledger.close()
    assert version_of(path) == SCHEMA_VERSION
    with closing(sqlite3.connect(path)) as connection, closing(sqlite3.connect(before)) as old:
        waits = (
            "SELECT state, actor, waiting FROM bookings JOIN events ON events.id = event WHERE bookings.id = 'waits'"
        )
        assert connection.execute(waits).fetchall() == [("waiting", "box-1", 1)]
        assert connection.execute("SELECT commits FROM ledger").fetchone() == (OLD_COMMITS + 2,)
        connection.execute("DELETE FROM bookings WHERE id = 'waits'")
        rows, old_rows = rows_of(connection), old_rows_of(before)
        for name in ("bookings", "redemptions", "removals"):
            assert rows[name] == old_rows[name]
        for select in ACTORS if version > OLD_VERSION else ():
            names = old.execute(select).fetchall()
            assert connection.execute(select).fetchall() == names
            assert len({row[-1] for row in names}) > 1
        connection.rollback()
    assert await faults_of(str(path)) == ["whole"]


@pytest.mark.parametrize("version", OLD_VERSIONS)
def test_a_migrated_ledger_has_the_tables_of_a_new_one(version: int, tmp_path: Path) -> None:
    found = []
    for path in (put_old(tmp_path, version), tmp_path / "new.db"):
        opened = open_ledger(path, Use(served=True))
        schema = "SELECT name, sql FROM sqlite_schema WHERE sql NOTNULL"
        found.append({name: parts_of(sql) for name, sql in opened.connection.execute(schema)})
        opened.files.close()
    assert found[0] == found[1]
    assert len(found[0]) == 8


@pytest.mark.parametrize("version", [*OLD_VERSIONS, SCHEMA_VERSION])
def test_what_a_buyer_has_is_found_by_an_index(version: int, tmp_path: Path) -> None:
    path = tmp_path / "events.db" if version == SCHEMA_VERSION else put_old(tmp_path, version)
    opened = open_ledger(path, Use(served=True))
    plan = [row[3] for row in opened.connection.execute(f"EXPLAIN QUERY PLAN {_OWNED}", ("[]",))]
    opened.files.close()
    bookings = [step for step in plan if "bookings" in step]
    assert bookings
    assert all("SEARCH" in step and "USING INDEX buyers" in step for step in bookings), plan


def parts_of(sql: str) -> set[str]:
    """Return what a table or an index consists of. A column that is added comes after the others."""
    begin, inside, end = re.fullmatch(r"([^(]*)\((.*)\)([^()]*|\s*WHERE .*)", sql, re.DOTALL).groups()  # type: ignore[union-attr]
    parts, depth = [""], 0
    for character in inside:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return {" ".join(part.replace('"', "").split()) for part in (begin, *parts, end)}


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (SCHEMA_VERSION + 1, "and this ticketd knows none after 7; start a newer ticketd"),
        (4, "which is too old to migrate; this ticketd migrates from schema 5 on; start the ticketd that wrote it"),
    ],
)
def test_a_ledger_of_an_unknown_schema_is_refused_in_words(tmp_path: Path, version: int, says: str) -> None:
    path = put_old(tmp_path)
    open_ledger(path, Use()).files.close()
    change(str(path), f"PRAGMA user_version = {version}")
    before = contents(tmp_path)
    for arguments in (("check", str(path)), ("--port", "0", "--events", str(tmp_path / "events.json"))):
        refused = ticketd(*arguments)
        assert (refused.returncode, refused.stdout) == (5, "")
        assert f"the ledger {path} has schema {version}, {says}" in refused.stderr
    # To read it, SQLite makes a log, which is empty.
    assert before.items() <= contents(tmp_path).items()


def test_a_check_of_an_older_ledger_changes_nothing(tmp_path: Path) -> None:
    path = put_old(tmp_path)
    before = contents(tmp_path)
    refused = ticketd("check", str(path))
    assert refused.returncode == 5
    assert "has schema 5, and this ticketd checks schema 7 only; start it on the ledger" in refused.stderr
    assert contents(tmp_path) == before


@pytest.mark.parametrize("version", OLD_VERSIONS)
def test_a_damaged_older_ledger_is_not_migrated(version: int, tmp_path: Path) -> None:
    path = put_old(tmp_path, version)
    load_checksums()
    with closing(apsw.Connection(str(path))) as connection:
        load_digests(connection)
        connection.execute("DELETE FROM redemptions WHERE booking = 'annulled' AND number = 2")
    with pytest.raises(CannotOpenError, match=r"is damaged \(its rows and versions add up to"):
        open_ledger(path, Use())
    assert version_of(path) == version


@pytest.mark.parametrize("version", OLD_VERSIONS)
def test_a_full_disk_leaves_the_older_ledger(version: int, tmp_path: Path) -> None:
    class Full(RealDisk):
        def has_no_room(self, *, grows: bool) -> bool:
            return self.full and grows

    path, disk = put_old(tmp_path, version), Full()
    with closing(apsw.Connection(str(path))) as connection:
        old_rows = rows_of(connection)
    with plugged(disk):
        disk.full = True
        with pytest.raises(CannotOpenError, match="the disk is full"):
            open_ledger(path, Use())
        disk.full = False
        with closing(apsw.Connection(str(path))) as connection:
            assert (connection.pragma("user_version"), rows_of(connection)) == (version, old_rows)
        opened = open_ledger(path, Use())
        assert rows_of(opened.connection) == old_rows
        opened.files.close()


def test_an_older_file_is_not_mixed_with_the_log_of_the_new_one(tmp_path: Path) -> None:
    path = put_old(tmp_path)
    load_checksums()
    with closing(apsw.Connection(str(path))):
        # Closing folds its log.
        pass
    older = path.read_bytes()
    opened = open_ledger(path, Use())
    opened.connection.execute("UPDATE ledger SET commits = commits + 1, folded = ?", (opened.folded,))
    files = contents(tmp_path)
    opened.files.close()
    for name, data in (files | {"events.db": older}).items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(CannotOpenError, match="do not belong together"):
        open_ledger(path, Use())


def on_disk() -> Contents:
    files = old_files(OLD_VERSION).items()
    return {f"{LEDGER}{end}": Content(bytearray(data), bytearray(data), named=True) for end, data in files}


class Death:
    """Ends the process at the n-th change of the disk: before it, or halfway."""

    def __init__(self, number: int, share: float) -> None:
        self._left, self._share = number, share
        self.disk = Disk(on_disk(), self)

    def __call__(self, call: Call, content: Content | None) -> None:
        self._left -= call.operation in ("write", "truncate", "sync", "delete")
        if self._left <= 0:
            if isinstance(call.change, tuple) and content:
                offset, data = call.change
                content.change((offset, data[: int(len(data) * self._share)]))
            self.disk.dead = True
            raise DeadError("the process ends here")


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_kill_or_power_cut_at_any_step_leaves_the_old_or_the_new_ledger(
    share: float, old_rows: Rows, chance: random.Random
) -> None:
    """It opens two disks for each of some 60 changes, so it takes some seconds."""
    found = set()
    for number in itertools.count(1):
        death = Death(number, share)
        with plugged(death.disk), suppress(apsw.Error, CannotOpenError):
            open_ledger(LEDGER, Use()).files.close()
        for files in (death.disk.after_kill(), death.disk.after_power_cut(chance)):
            copy = Disk({name: content.copy() for name, content in files.items()})
            with plugged(copy), closing(apsw.Connection(str(LEDGER))) as connection:
                connection.pragma("locking_mode", "EXCLUSIVE")
                found.add(connection.pragma("user_version"))
            with plugged(Disk(files)):
                opened = open_ledger(LEDGER, Use(new=None))
                assert rows_of(opened.connection) == old_rows
                assert opened.commits == OLD_COMMITS + 1
                opened.files.close()
        if not death.disk.dead:
            break
    assert found == {OLD_VERSION, SCHEMA_VERSION}
    assert number > 10
