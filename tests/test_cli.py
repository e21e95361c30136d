"""What whoever starts the daemon is promised: one clear line and a status of its own for what cannot work."""

import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon import Connection, Daemon, running, until, write_events
from tests.faults.daemon import Machine


def ended(*arguments: str, **env: str) -> tuple[int, list[str]]:
    daemon = Daemon(*arguments, env=env)
    status = daemon.wait()
    return status, daemon.lines


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--port", "70000"], "--port"),
        (["--port", "x"], "--port"),
        (["--connections-max", "0"], "--connections-max"),
        (["--idle-seconds-max", "nan"], "--idle-seconds-max"),
        (["--idle-seconds-max", "soon"], "--idle-seconds-max"),
        (["--log-level", "loud"], "--log-level"),
        (["--colour", "red"], 'there is no flag "--colour"; see ticketd --help'),
        (["--prot=80"], 'there is no flag "--prot"; did you mean --port?'),
        (["chekc", "events.db"], 'there is no command "chekc"; did you mean check?'),
        (["check", "events.db"], "check is a command, and comes first"),
        (["--host", "127.0.0.1:18200"], "--host must be a name or an address alone, not"),
        (["--host", "[::1]:18200"], "; write --host ::1 --port 18200"),
        (["--host", ":18200"], "; write --port 18200"),
        (["--port", "9" * 5_000], "--port"),
        (["--events", "/"], "--events"),
        (["--ledger", "mysql://user:secret@host/db"], "--ledger"),
        (["--ledger", "postgresql://user:secret@host/db", "--accept-losses"], "--accept-losses"),
        (["--tls-key", "key.pem"], "--tls-key needs --tls-certificate"),
        (["--unix-mode", "660"], "--unix-mode needs --unix"),
        (["--unix", "socket", "--unix-mode", "888"], "--unix-mode must be three octal digits"),
        (["--unix", "socket", "--unix-mode", "01660"], "--unix-mode must be three octal digits"),
        (["--access", ""], "--access must be the path of a file"),
        (["--tls-certificate", ""], "--tls-certificate must be the path of a file"),
        (["--access", "access.json", "--open-to-the-network"], "leave one of them out"),
        (["--unix", "socket", "--unix-mode", "rw"], "--unix-mode must be three octal digits"),
        (["--sales-per-second-max", "-1"], "--sales-per-second-max"),
        (["--access", "nope.json"], "cannot read the access file nope.json"),
    ],
)
def test_a_bad_flag_is_named_and_exits_with_status_2(tmp_path: Path, arguments: list[str], named: str) -> None:
    status, lines = ended("--events", str(tmp_path / "events.json"), *arguments)
    assert status == 2
    assert named in lines[-1]
    assert not (tmp_path / "events.db").exists()


def test_a_bad_environment_variable_exits_with_status_2(tmp_path: Path) -> None:
    status, lines = ended("--events", str(tmp_path / "events.json"), TICKETD_IDLE_SECONDS_MAX="0")
    assert status == 2
    assert "TICKETD_IDLE_SECONDS_MAX must be" in lines[-1]


def test_a_daemon_with_an_invalid_host_exits_with_status_3(tmp_path: Path) -> None:
    status, lines = ended("--events", str(tmp_path / "events.json"), "--host", "a..b")
    assert status == 3
    assert lines[-1].startswith("ticketd: cannot listen on a..b:8080: ")


@pytest.mark.parametrize("ledger", ["/", "."])
def test_a_folder_is_no_ledger(ledger: str, tmp_path: Path) -> None:
    status, lines = ended("--events", str(tmp_path / "events.json"), "--port", "0", "--ledger", ledger)
    assert status == 5
    assert lines[-1].startswith(f"ticketd: {Path(ledger).resolve()} is a folder, not a ledger; name a file in it")


def test_a_host_that_does_not_exist_is_told_without_a_number(tmp_path: Path) -> None:
    status, lines = ended("--events", str(tmp_path / "events.json"), "--host", "nowhere.invalid")
    assert status == 3
    assert lines[-1].startswith("ticketd: cannot listen on nowhere.invalid:8080: ")
    assert "Errno" not in lines[-1]


def with_open_files(most: int, folder: Path) -> subprocess.Popen[str]:
    """Start a daemon that the system lets open so many files."""
    daemon = [sys.executable, "-m", "ticketd", "--port", "0", "--events", str(folder / "events.json")]
    command = ["/bin/sh", "-c", f'ulimit -n {most}; exec "$@"', "sh", *daemon]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_too_few_open_files_to_serve_anybody_exit_with_status_3(tmp_path: Path) -> None:
    with with_open_files(32, tmp_path) as daemon:
        try:
            _, said = daemon.communicate(timeout=20)
        finally:
            daemon.kill()
    assert daemon.returncode == 3
    assert said.startswith("ticketd: only 32 files may be open, ")
    assert "(ulimit -Hn " in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_one_more_open_file_serves_somebody(tmp_path: Path) -> None:
    write_events(tmp_path, 5)
    with with_open_files(33, tmp_path) as daemon:
        assert daemon.stderr is not None
        try:
            ready = next(match for line in daemon.stderr if (match := re.match(r"ready listen=[^ ]*?:(\d+)", line)))
            with Connection(int(ready[1])) as connection:
                assert connection.ask("book 1 2")["available"] == 3
        finally:
            daemon.kill()


def test_a_disk_that_fails_at_startup_exits_with_status_5(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.fail_syncs()
    daemon = Daemon("--port", "0", "--events", str(tmp_path / "events.json"), module=machine.module, env=machine.env)
    assert daemon.wait() == 5
    assert daemon.lines[-1].startswith("ticketd: cannot open the ledger ")


def test_new_events_on_a_full_disk_are_added_once_there_is_room(tmp_path: Path) -> None:
    write_events(tmp_path, 5)
    with running(tmp_path) as daemon:
        assert daemon.end() == 0
    write_events(tmp_path, 5, 5)
    machine = Machine(tmp_path)
    with machine.is_full():
        daemon = Daemon(
            "--port", "0", "--events", str(tmp_path / "events.json"), module=machine.module, env=machine.env
        )
        daemon.wait_ready()
        connection = daemon.connect()
        assert connection.ask("show 1")["available"] == 5
        assert connection.ask("book 1 1")["code"] == "storage_full"
    try:
        until(lambda: connection.ask("show 2")["reply"] == "event")
        assert connection.ask("book 2 1")["reply"] == "booking"
    finally:
        connection.close()
        daemon.kill()


def test_a_flag_overrides_an_environment_variable(tmp_path: Path) -> None:
    env = {"TICKETD_CONNECTIONS_MAX": "7", "TICKETD_CONNECTIONS_WAITING_MAX": "5"}
    with running(tmp_path, "--connections-max", "9", env=env) as daemon, daemon.connect() as connection:
        assert connection.ask("stats")["connections_max"] == 9


def test_a_port_in_use_is_named_and_exits_with_status_3(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with running(tmp_path) as daemon:
        status, lines = ended("--events", str(tmp_path / "other" / "events.json"), "--port", str(daemon.port))
    assert status == 3
    assert lines[-1].startswith(f"ticketd: cannot listen on 127.0.0.1:{daemon.port}: ")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"{", "events.json:1"),
        (b'{"events":[\n{"ID":"1"}]}', "events.json:2"),
        (b"\xff", "events.json:1"),
    ],
)
def test_an_invalid_events_file_stops_startup_and_is_left_alone(tmp_path: Path, content: bytes, named: str) -> None:
    file = tmp_path / "events.json"
    file.write_bytes(content)
    status, lines = ended("--port", "0", "--events", str(file))
    assert status == 4
    assert len(lines) == 1
    assert named in lines[0]
    assert file.read_bytes() == content


def test_what_a_daemon_creates_is_for_its_owner_only(tmp_path: Path) -> None:
    with running(tmp_path) as daemon, daemon.connect() as connection:
        connection.ask("create Jazz 2027-03-11T20:00:00Z 5 --id jazz")
        files = {tmp_path / name for name in ("events.json", "events.db", "events.db-wal", "events.db-seal")}
        until(lambda: files <= set(tmp_path.iterdir()))
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_second_daemon_on_the_same_ledger_does_not_start(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        status, lines = ended("--port", "0", "--events", str(tmp_path / "events.json"))
        assert status == 5
        assert "in use by another ticketd" in lines[-1]
        with first.connect() as connection:
            assert connection.ask("ping") == {"reply": "pong"}


@pytest.mark.parametrize("arrange", ["text", "newer", "foreign", "folder"])
def test_a_foreign_or_newer_file_is_refused_and_left_alone(tmp_path: Path, arrange: str) -> None:
    path = tmp_path / "events.db"
    if arrange == "text":
        path.write_text("these are not the tickets you are looking for\n" * 100)
    elif arrange == "folder":
        path.mkdir()
    else:
        if arrange == "newer":
            with running(tmp_path) as daemon:
                assert daemon.end() == 0
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99" if arrange == "newer" else "CREATE TABLE notes (text)")
        database.close()
    before = path.read_bytes() if path.is_file() else None
    status, lines = ended("--port", "0", "--events", str(tmp_path / "events.json"))
    assert status == 5
    assert lines[-1].startswith("ticketd: ")
    assert "Traceback" not in "\n".join(lines)
    assert before is None or path.read_bytes() == before


def test_the_ready_line_says_where_and_what_the_daemon_serves(tmp_path: Path) -> None:
    write_events(tmp_path, 5, 5)
    with running(tmp_path) as daemon:
        line = daemon.wait_line("^ready")
        ledger = tmp_path / "events.db"
        assert line.startswith(f"ready listen=127.0.0.1:{daemon.port} ledger={ledger} events=2 loop=")
        assert " version=" in line


def test_the_events_file_is_synced_while_the_daemon_runs(tmp_path: Path) -> None:
    write_events(tmp_path, 5)
    file = tmp_path / "events.json"
    with running(tmp_path) as daemon, daemon.connect() as connection:
        connection.ask("book 1 2")
        until(lambda: b'"AvailableTickets": 3' in file.read_bytes())
        # What somebody adds meanwhile is taken in, and what they change of a known event is not.
        write_events(tmp_path, 5, 7)
        until(lambda: len(connection.ask("list")["events"]) == 2)
        until(lambda: b'"AvailableTickets": 3' in file.read_bytes())
        # What does not parse is not overwritten; the sale goes on.
        file.write_bytes(b"{")
        assert str(file) in daemon.wait_line("it is not written: correct it")
        assert connection.ask("book 2 7")["available"] == 0
        assert daemon.end(signal.SIGTERM) == 0
    assert file.read_bytes() == b"{"


def test_an_event_name_survives_a_restart_byte_for_byte(tmp_path: Path) -> None:
    name = "Łódź 🎷 “Jazz” Night"
    for _ in range(2):
        with running(tmp_path) as daemon, daemon.connect() as connection:
            connection.ask(f"create '{name}' 2027-03-11T20:00:00+01:00 5 --id jazz")
            shown = connection.ask("show jazz")
            assert (shown["name"], shown["date"]) == (name, "2027-03-11T19:00:00Z")
            assert daemon.end() == 0
