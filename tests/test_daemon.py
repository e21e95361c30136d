"""What happens when a part of the daemon fails by a bug: it says which one, and ends with a status of its own."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.daemon import Daemon, running, unasked, write_events
from ticketd.config import STATUS_BUG


@contextmanager
def broken(folder: Path, part: str) -> Iterator[Daemon]:
    """Run a daemon in which a part fails once there is a file ``bug``."""
    write_events(folder, 100)
    env = {"BROKEN": part, "TRIGGER": str(folder / "bug")}
    with running(folder, module="tests.broken", env=env) as daemon:
        yield daemon


def test_a_bug_in_the_file_sync_ends_the_daemon_in_good_order(tmp_path: Path) -> None:
    with broken(tmp_path, "file sync") as daemon, daemon.connect() as connection:
        assert connection.ask("book 1 2 --booking mine")["available"] == 98
        (tmp_path / "bug").touch()
        assert unasked(connection.read()) == "shutting_down"
        assert connection.rest() == b""
        connection.close()
        assert daemon.wait() == STATUS_BUG
        assert daemon.wait_line("CRITICAL").endswith("a bug in the file sync, ending; start it again")
        daemon.wait_line("RuntimeError: a bug that a test made")
        daemon.wait_line("ended$")
    # The next one finds everything.
    with running(tmp_path) as daemon:
        with daemon.connect() as connection:
            assert connection.ask("book 1 2 --booking mine")["replayed"]
        assert daemon.end() == 0
    assert msgspec.json.decode((tmp_path / "events.json").read_bytes())["events"][0]["AvailableTickets"] == 98


def test_a_bug_in_the_committer_ends_the_daemon_at_once(tmp_path: Path) -> None:
    with broken(tmp_path, "committer") as daemon, daemon.connect() as connection, daemon.connect() as idle:
        assert connection.ask("book 1 2 --booking first")["available"] == 98
        assert idle.ask("ping") == {"reply": "pong"}
        (tmp_path / "bug").touch()
        connection.send(b"book 1 2 --booking second\n")
        assert unasked(idle.read()) == "shutting_down"
        # The daemon waits a little for clients that stay.
        connection.reset()
        idle.close()
        assert daemon.wait() == STATUS_BUG
        assert daemon.wait_line("CRITICAL").endswith("a bug in the committer, ending; start it again")
    with running(tmp_path) as daemon, daemon.connect() as connection:
        # Nobody was answered, but it was committed.
        assert connection.ask("book 1 2 --booking second")["replayed"]
        assert connection.ask("show 1")["sold"] == 4


# More than one commit takes of a connection.
LINES = 300


@pytest.mark.parametrize(
    ("part", "line", "named"),
    [
        ("commits", "book 1 1", "a bug in a callback"),
        ("reader", "show first", "a bug in a callback"),
        ("slices", "book 1 1", "a bug in the committer"),
        ("watchers", "book 1 1", "a bug in a callback"),
        ("fair share", "watch", "a bug in a callback"),
    ],
)
def test_a_bug_in_a_callback_ends_the_daemon_at_once(tmp_path: Path, part: str, line: str, named: str) -> None:
    with broken(tmp_path, part) as daemon, ExitStack() as stack:
        connection, other, idle = [stack.enter_context(daemon.connect()) for _ in range(3)]
        first = connection.ask("book 1 2 --booking first")
        assert idle.ask("watch 1")["reply"] == "event"
        (tmp_path / "bug").touch()
        # Two at once, so that one waits for a commit while the other is in it.
        for each in (connection, other):
            each.send(f"{line}\n".encode() * LINES)
        while (last := idle.read())["reply"] == "event":
            pass
        assert last["code"] == "shutting_down"
        # The daemon waits a little for clients that stay.
        idle.close()
        connection.reset()
        other.reset()
        assert daemon.wait() == STATUS_BUG
        assert daemon.wait_line("CRITICAL").endswith(f"{named}, ending; start it again")
        daemon.wait_line("RuntimeError: a bug that a test made")
    with running(tmp_path) as daemon, daemon.connect() as connection:
        assert connection.ask("show first") == first


def test_a_bug_in_a_conversation_ends_that_connection_only(tmp_path: Path) -> None:
    with broken(tmp_path, "session") as daemon, daemon.connect() as idle:
        with daemon.connect() as connection:
            assert connection.ask("book 1 2")["available"] == 98
            (tmp_path / "bug").touch()
            connection.send(b"book 1 2\n")
            assert connection.rest() == b""
        (tmp_path / "bug").unlink()
        daemon.wait_line("a bug ended a connection")
        assert idle.ask("show 1")["sold"] == 2
        idle.close()
        assert daemon.end() == 0
