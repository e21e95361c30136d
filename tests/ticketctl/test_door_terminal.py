"""ticketctl door on a terminal: verdicts that are seen from afar, and a shell that goes on after it."""

from pathlib import Path

import pytest

from tests.conftest import ended, terminal
from tests.daemon import Daemon, running, write_events
from tests.ticketctl.test_door import tickets_of
from tests.ticketctl.test_shell import CTRL_C, entered, prompted, shell

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

CTRL_D = "\x04"


def test_the_shell_goes_on_when_the_door_is_closed(daemon: Daemon, tmp_path: Path) -> None:
    one, two = tickets_of(daemon, "1", 2, "shell")
    with shell(daemon.port, tmp_path) as screen:
        for ticket, leave in ((one, CTRL_D), (two, CTRL_C)):
            screen.send("door 1\r")
            screen.expect_exact("is open")
            screen.send(f"{ticket}\n")
            screen.expect(rf"{ticket} +let in: 1")
            screen.send(leave)
            prompted(screen, daemon.port)
        assert "pong" in entered(screen, daemon.port, "ping")


def test_a_terminal_shows_each_verdict_from_afar(daemon: Daemon) -> None:
    [ticket] = tickets_of(daemon, "1", 1, "screen")
    with terminal("door", "1", port=daemon.port) as screen:
        screen.expect_exact("the door of Event 1 is open")
        screen.send(f"{ticket}\n")
        screen.expect(rf"42m[^\n]*OK[^\n]*\n(?s:.*){ticket} +let in: 1")
        screen.send("nobody\n")
        screen.expect(r"41m[^\n]*UNKNOWN[^\n]*\n(?s:.*)nobody +let in: 1")
        screen.send(CTRL_D)
        status, _ = ended(screen)
    assert status == 0


def test_a_terminal_shows_that_a_guest_waits(tmp_path: Path) -> None:
    write_events(tmp_path, 10)
    with running(tmp_path) as daemon, terminal("door", "1", port=daemon.port) as screen:
        [ticket] = tickets_of(daemon, "1", 1, "anna")
        screen.expect_exact("is open")
        daemon.kill()
        screen.send(f"{ticket}\n")
        screen.expect(r"43m[^\n]*WAITING")
        with running(tmp_path, "--port", str(daemon.port)):
            screen.expect(r"42m[^\n]*OK")
