"""What a start says and leaves behind: after a crash, and where the port is taken."""

import re
import signal
import socket
from pathlib import Path

import pytest

from tests.daemon import Daemon, running, write_events
from tests.secured import short_folder
from ticketd.config import STATUS_CANNOT_LISTEN

RECOVERED = re.compile(r" INFO recovered commits=(\d+) in \d+ ms$")


def recovered(daemon: Daemon) -> list[int]:
    return [int(match[1]) for line in daemon.lines if (match := RECOVERED.search(line))]


def test_after_a_crash_one_line_says_what_was_recovered(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path) as daemon, daemon.connect() as connection:
        assert recovered(daemon) == []
        for _ in range(7):
            connection.ask("book 1 1")
        daemon.end(signal.SIGKILL)
    with running(tmp_path) as daemon:
        # The first commit made the event.
        assert recovered(daemon) == [8]
        assert daemon.end() == 0
    with running(tmp_path) as daemon:
        assert recovered(daemon) == []


@pytest.mark.parametrize("flag", ["--port", "--metrics", "--unix"])
def test_a_start_that_cannot_listen_leaves_no_files_behind(tmp_path: Path, flag: str) -> None:
    with (
        short_folder() as folder,
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(str(folder / "socket"))
        unix.listen()
        value = str(folder / "socket") if flag == "--unix" else str(taken.getsockname()[1])
        daemon = Daemon("--port", "0", "--events", str(tmp_path / "events.json"), flag, value)
        assert daemon.wait() == STATUS_CANNOT_LISTEN
    assert daemon.lines == [
        f"ticketd: cannot listen on {daemon.lines[0].split()[4][:-1]}: Address already in use; "
        f"choose another {'--port or --host' if flag == '--port' else flag}"
    ]
    assert not list(tmp_path.iterdir())
