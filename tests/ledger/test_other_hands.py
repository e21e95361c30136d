"""The files of an embedded ledger in other hands: opened by somebody else, taken away, or readable by others."""

import shutil
import stat
from pathlib import Path

import pytest

from tests.callbacks import commit
from tests.daemon import Connection, running, write_events
from tests.faketime import Clock
from tests.faults.hands import another_starts, put_link
from tests.ledger.sale import ticketd
from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.embedded.ledger import EmbeddedLedger
from ticketd.wire.requests import Book, Create


def test_a_link_to_the_ledger_is_never_read_as_events_json(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path) as daemon, daemon.connect() as connection:
        assert connection.ask("book 1 60")["available"] == 40
        for hard, name in ((False, "events.db"), (True, "events.db-wal"), (True, "events.db")):
            put_link(tmp_path, name, hard=hard)
            daemon.wait_line(rf"ERROR .*events\.json is a file of the ledger \({name}\), not a catalogue")
            assert another_starts(tmp_path) is None
        assert connection.ask("book 1 40")["available"] == 0
        assert daemon.end() == 0
    assert ticketd("check", str(tmp_path / "events.db")).returncode == 0


@pytest.mark.parametrize("name", ["events.db", "events.db-wal", "link"])
def test_events_that_are_the_ledger_are_refused_at_the_start(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("events.db")
    for exists in (False, True):
        done = ticketd("--port", "0", "--events", str(tmp_path / name), "--ledger", str(tmp_path / "events.db"))
        assert done.returncode == 4
        assert ", not a catalogue; correct it, or name another with --events" in done.stderr
        assert (tmp_path / "events.db").exists() == exists
        write_events(tmp_path)
        with running(tmp_path) as daemon, daemon.connect() as connection:
            connection.ask("create Jazz 2027-03-11T20:00:00Z 5")


async def test_no_second_daemon_sells_after_sqlite_lost_its_locks(tmp_path: Path) -> None:
    ledger = EmbeddedLedger(tmp_path / "events.db", 30)
    for name in ("events.db", "events.db-wal"):
        # Linux drops all locks that this process has on the file.
        (tmp_path / name).open("rb").close()
    assert another_starts(tmp_path) is None
    for arguments in (("check", "events.db"), ("move", "events.db", "new.db"), ("move", "new.db", "events.db")):
        command, *ledgers = arguments
        done = ticketd(command, *(str(tmp_path / name) for name in ledgers))
        assert done.returncode == 5
    await ledger.close()
    second = another_starts(tmp_path)
    assert second
    assert second.end() == 0


def booked(connection: Connection, *names: str) -> None:
    for name in names:
        assert connection.ask(f"book 1 1 --booking {name}")["state"] == "confirmed"


@pytest.mark.parametrize("names", [["events.db-wal"], ["events.db-seal"], ["events.db-wal", "events.db-seal"]])
def test_a_file_that_vanishes_under_a_daemon_loses_no_sale(tmp_path: Path, names: list[str]) -> None:
    write_events(tmp_path, 100)
    # SQLite keeps its log beside the file, not beside a link to it.
    (tmp_path / "link.db").symlink_to("events.db")
    with running(tmp_path, "--ledger", str(tmp_path / "link.db")) as daemon:
        with daemon.connect() as connection:
            booked(connection, "a", "b")
            for name in names:
                (tmp_path / name).unlink()
            assert connection.ask("book 1 1 --booking c")["code"] == "outcome_unknown"
        assert daemon.wait() == 6
        daemon.wait_line(
            rf"CRITICAL the ledger failed.*missing or replaced: .*{names[0]}.*\. Everything acknowledged is in"
        )
    both = len(names) > 1
    with running(tmp_path, *(["--accept-losses"] if both else [])) as daemon, daemon.connect() as connection:
        assert connection.ask("show 1")["sold"] == 2
        assert connection.ask("book 1 1 --booking a")["replayed"]
        booked(connection, "c")


def test_a_log_that_vanishes_is_folded_by_an_orderly_end(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path) as daemon:
        with daemon.connect() as connection:
            booked(connection, "a", "b")
            (tmp_path / "events.db-wal").unlink()
        assert daemon.end() == 0
    with running(tmp_path) as daemon, daemon.connect() as connection:
        assert connection.ask("show 1")["sold"] == 2


async def test_a_lost_seal_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    await sold(path)
    (tmp_path / "events.db-seal").unlink()
    says = "only the seal was lost, no sale is missing, and a start with --accept-losses makes a new seal"
    with pytest.raises(CannotOpenError, match=says):
        EmbeddedLedger(path, 30)
    assert says in ticketd("check", str(path)).stdout
    await EmbeddedLedger(path, 30, accept_losses=True).close()
    await EmbeddedLedger(path, 30).close()


async def sold(path: Path) -> None:
    ledger = EmbeddedLedger(path, 30, Clock())
    await commit(ledger, Create("Jazz", Clock().time, 5, "jazz"), Book("jazz", 1, "b"))
    await ledger.close()


def test_a_ledger_moved_under_a_daemon_is_whole_where_it_is(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    (tmp_path / "away").mkdir()
    with running(tmp_path) as daemon:
        with daemon.connect() as connection:
            booked(connection, "a", "b")
            for file in tmp_path.glob("events.db*"):
                shutil.move(file, tmp_path / "away")
            assert connection.ask("book 1 1")["code"] == "outcome_unknown"
        assert daemon.wait() == 6
    assert list(tmp_path.glob("events.db*")) == []
    with running(tmp_path, "--ledger", str(tmp_path / "away" / "events.db")) as daemon, daemon.connect() as connection:
        assert connection.ask("show 1")["sold"] == 2


def test_only_its_owner_can_read_a_ledger(tmp_path: Path) -> None:
    write_events(tmp_path, 100)

    def modes(name: str) -> dict[str, int]:
        return {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob(f"{name}*")}

    with running(tmp_path) as daemon, daemon.connect() as connection:
        booked(connection, "a")
        assert modes("events.db") == dict.fromkeys(("events.db", "events.db-wal", "events.db-seal"), 0o600)
        assert daemon.end() == 0
    assert ticketd("move", str(tmp_path / "events.db"), str(tmp_path / "new.db")).returncode == 0
    assert modes("new.db") == dict.fromkeys(("new.db", "new.db-seal"), 0o600)
    # Who restores a backup, or shares a ledger with a group on purpose, chooses the modes.
    for file in tmp_path.glob("new.db*"):
        file.chmod(0o640)
    with running(tmp_path, "--ledger", str(tmp_path / "new.db")) as daemon, daemon.connect() as connection:
        booked(connection, "b")
        assert modes("new.db") == dict.fromkeys(("new.db", "new.db-wal", "new.db-seal"), 0o640)
