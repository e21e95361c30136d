"""ticketctl watch --booking: one booking until its end, on a terminal, in a pipe and as JSON."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import ctl, ended, interrupt, nobody, terminal
from tests.daemon import Daemon, running, write_events
from tests.screens import Screen
from tests.ticketctl.test_shell import CTRL_C
from tests.ticketctl.test_watch import over, watching

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def ask(daemon: Daemon, line: str) -> dict[str, Any]:
    with daemon.connect() as connection:
        return connection.ask(line)


def test_watch_of_a_booking_in_a_pipe_ends_with_its_story(daemon: Daemon) -> None:
    ask(daemon, "hold 1 2 --booking piped")
    with watching("--booking", "piped", port=daemon.port) as process:
        assert process.stdout
        held = process.stdout.readline()
        assert held == ctl("show", "piped", port=daemon.port).stdout
        ask(daemon, "extend piped 600")
        assert process.stdout.readline().split("\t")[7] > held.split("\t")[7]
        ask(daemon, "confirm piped")
        status, out, err = over(process)
    assert (status, out, err) == (0, ctl("show", "piped", port=daemon.port).stdout, "")
    # What is over already is shown, and that is all.
    assert ctl("watch", "--booking", "piped", port=daemon.port).stdout == out


def test_watch_of_a_booking_in_json_prints_the_frames(daemon: Daemon) -> None:
    held = ask(daemon, "hold 1 2 --booking framed")
    with watching("--json", "--booking", "framed", port=daemon.port) as process:
        assert process.stdout
        assert msgspec.json.decode(process.stdout.readline()) == held
        ask(daemon, "release framed")
        status, out, _ = over(process)
    assert (status, msgspec.json.decode(out)) == (0, ask(daemon, "show framed"))


def test_watch_of_a_booking_on_a_terminal_leaves_a_line_for_each_state(daemon: Daemon) -> None:
    ask(daemon, "create Small 2037-03-11T20:00:00Z 1 --id small")
    ask(daemon, "hold small 1 --booking first")
    ask(daemon, "wait small 1 --booking second")
    size = (20, 80)
    with terminal("watch", "--booking", "second", port=daemon.port, size=size) as child:
        screen = Screen(child, size)
        screen.until_text("second: number 1 in line for 1 ticket of event small")
        ask(daemon, "release first")
        screen.until_text("held until")
        ask(daemon, "confirm second")
        left = screen.ended()
    assert child.exitstatus == 0
    assert [re.sub(r"^[\d:]+ second: |( until).*", r"\1", line).rsplit(" ", 1)[-1] for line in left] == [
        "small",
        "until",
        "confirmed",
    ]


def test_watch_of_a_booking_on_a_dumb_terminal_writes_sentences(daemon: Daemon) -> None:
    ask(daemon, "hold 1 2 --booking plain")
    with terminal("watch", "--booking", "plain", port=daemon.port, env={"TERM": "dumb"}) as screen:
        screen.expect(r"\d\d:\d\d:\d\d plain: 2 tickets of event 1, held until [^\r]* UTC\r\n")
        ask(daemon, "release plain")
        status, shown = ended(screen)
    assert (status, shown[9:]) == (0, "plain: 2 tickets of event 1, released\n")
    assert "\x1b" not in shown


def test_watch_of_a_booking_ends_as_it_is_told(daemon: Daemon) -> None:
    ask(daemon, "hold 1 1 --booking kept")
    with watching("--booking", "kept", "--count", "1", port=daemon.port) as process:
        assert process.stdout
        process.stdout.readline()
        ask(daemon, "extend kept 900")
        status, out, _ = over(process)
    assert (status, out.split("\t")[3]) == (0, "held")
    assert ctl("watch", "--booking", "kept", "--seconds", "0.5", port=daemon.port).returncode == 0
    with watching("--booking", "kept", port=daemon.port) as process:
        assert process.stdout
        process.stdout.readline()
        assert interrupt(process)[0] == 130
    with terminal("watch", "--booking", "kept", port=daemon.port) as child:
        child.expect_exact("held until")
        child.send(CTRL_C)
        status, shown = ended(child)
    assert status == 130
    assert "Traceback" not in shown


def test_watch_of_a_booking_that_is_not_there_exits_with_status_1(daemon: Daemon) -> None:
    done = ctl("watch", "--booking", "nope", port=daemon.port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ticketctl: booking_not_found: there is no booking nope\n"
    with nobody() as port:
        done = ctl("watch", "1", "--booking", "nope", port=port)
    assert done.returncode == 2
    assert "watch takes an event or a booking, not both" in done.stderr


def test_watch_of_a_booking_goes_on_when_the_daemon_is_back(tmp_path: Path) -> None:
    write_events(tmp_path, 1)
    with running(tmp_path) as daemon:
        ask(daemon, "hold 1 1 --booking h")
        with watching("--booking", "h", port=daemon.port) as process:
            assert process.stdout and process.stderr
            assert "\theld\t" in process.stdout.readline()
            daemon.kill()
            assert process.stderr.readline().endswith("is lost; trying again\n")
            with running(tmp_path, "--port", str(daemon.port)) as again:
                assert process.stderr.readline() == "ticketctl: connected again\n"
                ask(again, "confirm h")
                status, out, _ = over(process)
    assert (status, out.split("\t")[3]) == (0, "confirmed")
