"""ticketctl wait: the place in line, the bell, and the commands to go on with; through Ctrl-C and restarts."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any

import msgspec
import pytest

from tests.conftest import BREAK, SECONDS_MAX, SILENCE, answer, booked, ctl, ended, interrupt, lying, nobody, start_ctl
from tests.conftest import terminal as on_terminal
from tests.daemon import Daemon, running, write_events
from tests.screens import Screen
from tests.ticketctl.test_render import ESCAPED, EVIL, STEERING
from tests.ticketctl.test_shell import CTRL_C, TAB, entered, pasted, prompted, shell

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

PONG = answer("pong")
BELL = "\x07"
_numbers = count(1)


def ask(daemon: Daemon, line: str) -> dict[str, Any]:
    with daemon.connect() as connection:
        return connection.ask(line)


@pytest.fixture
def full(daemon: Daemon) -> str:
    """An event of two tickets, held by the booking ``EVENT-hold``, with the bookings ``EVENT-1`` and ``-2`` in line."""
    event = f"full{next(_numbers)}"
    ask(daemon, f"create Full 2037-03-11T20:00:00Z 2 --id {event}")
    ask(daemon, f"hold {event} 2 --booking {event}-hold")
    for number in (1, 2):
        assert ask(daemon, f"wait {event} 1 --booking {event}-{number}")["position"] == number
    return event


@contextmanager
def waiting(*words: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """Wait in a pipe."""
    with start_ctl("wait", *words, port=port) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> list[str]:
    """Return the columns of the next line that is written."""
    assert process.stdout
    return process.stdout.readline().rstrip("\n").split("\t")


def over(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=SECONDS_MAX)
    return process.returncode, out, err


def test_wait_in_a_pipe_writes_each_change_until_the_tickets_are_held(daemon: Daemon, full: str) -> None:
    with waiting(full, "1", "--booking", f"{full}-me", "--seconds", "60", port=daemon.port) as process:
        for place in (3, 2):
            shown = line(process)
            assert (shown[0], shown[3], shown[-1]) == (f"{full}-me", "waiting", str(place))
            ask(daemon, f"release {full}-{place - 1}" if place == 3 else f"release {full}-hold")
        held = line(process)
        status, out, err = over(process)
    assert (held[3], status, out) == ("held", 0, "")
    said, confirm = err.splitlines()
    assert said == f"ticketctl: the tickets are held until {held[7]}; this buys them:"
    assert confirm == f"  ticketctl --port {daemon.port} confirm {full}-me"
    assert ctl(*shlex.split(confirm)[1:]).stdout.split("\t")[3] == "confirmed"


def test_wait_in_json_writes_the_frames(daemon: Daemon, full: str) -> None:
    with waiting("--json", full, "1", "--booking", f"{full}-me", port=daemon.port) as process:
        assert process.stdout
        first = msgspec.json.decode(process.stdout.readline())
        assert first == ask(daemon, f"show {full}-me")
        ask(daemon, f"release {full}-1")
        ask(daemon, f"release {full}-hold")
        frames = [msgspec.json.decode(frame) for frame in over(process)[1].splitlines()]
    assert frames[-1] == ask(daemon, f"show {full}-me")
    assert [frame["state"] for frame in frames] in (["held"], ["waiting", "held"])


def test_tickets_that_are_there_are_held_at_once(daemon: Daemon) -> None:
    done = ctl("wait", "2", "3", "--buyer", "anna", port=daemon.port)
    booking, event, quantity, state, *_ = done.stdout.split("\t")
    assert (done.returncode, event, quantity, state, done.stdout.count("\n")) == (0, "2", "3", "held", 1)
    assert done.stderr.splitlines()[1] == f"  ticketctl --port {daemon.port} confirm {booking}"
    quiet = ctl("--quiet", "wait", "2", "1", port=daemon.port)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_wait_on_a_terminal_draws_one_line_and_rings_once(daemon: Daemon, full: str, columns: int) -> None:
    size = (20, columns)
    with on_terminal("wait", full, "1", "--booking", f"{full}-me", port=daemon.port, size=size) as child:
        screen = Screen(child, size)
        sent: list[str] = []
        # What is sent to the terminal, with the bell in it.
        child.logfile_read = type("Log", (), {"write": lambda _, text: sent.append(text), "flush": lambda _: None})()
        screen.until_text("number 3 in line")
        ask(daemon, f"release {full}-1")
        shown = screen.until_text("number 2 in line")
        assert not any("number 3" in row for row in shown)
        assert BELL not in "".join(sent)
        ask(daemon, f"release {full}-hold")
        left = screen.ended()
    assert child.exitstatus == 0
    assert "".join(sent).count(BELL) == 1
    # The place, the offer, and how to buy it: nothing is broken by the edge but the command, which is copied whole.
    text = "".join(left)
    assert f"ticketctl --port {daemon.port} confirm {full}-me" in text
    assert sum("number 2 in line" in row for row in left) == 1
    assert re.search(r"held until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", text)


def test_ctrl_c_keeps_the_place_and_says_how_to_come_back(daemon: Daemon, full: str) -> None:
    size = (20, 100)
    with on_terminal("wait", full, "1", "--booking", f"{full}-me", port=daemon.port, size=size) as child:
        screen = Screen(child, size)
        first, *_ = screen.until_text("number 3 in line")
        assert first == f"ticketctl: waiting as booking {full}-me; Ctrl-C keeps its place in line"
        child.send(CTRL_C)
        *_, keeps, again, to_leave, leave = screen.ended()
    assert child.exitstatus == 130
    assert keeps == f"ticketctl: booking {full}-me keeps its place in line; to come back:"
    assert again == f"  ticketctl --port {daemon.port} wait {full} 1 --booking {full}-me"
    assert to_leave == "to leave:"
    ask(daemon, f"wait {full} 1 --booking {full}-later")
    assert ask(daemon, f"show {full}-me")["position"] == 3
    # The same command comes back to the same place, however often.
    with waiting(*shlex.split(again)[4:], port=daemon.port) as process:
        assert line(process)[3] == "waiting"
        assert line(process)[-1] == "3"
        status, _, err = interrupt(process)
    assert status == 130
    assert err.splitlines()[-3:] == [again, to_leave, leave]
    assert ctl(*shlex.split(leave)[1:]).stdout.split("\t")[3] == "released"
    assert ask(daemon, f"show {full}-later")["position"] == 3


def test_the_way_back_has_whatever_was_asked_for(daemon: Daemon, full: str) -> None:
    with waiting("--", full, "1", port=daemon.port) as process:
        minted = line(process)[0]
        assert f"wait {full} 1 --booking {minted}" in interrupt(process)[2]
    asked = [full, "1", "--seconds", "60", "--booking", "-b", "--buyer", "Anna B."]
    with waiting(*asked, port=daemon.port) as process:
        line(process)
        again = interrupt(process)[2].splitlines()[1]
    assert again.endswith(f" wait {full} 1 --seconds 60 --booking=-b --buyer 'Anna B.'")


@pytest.mark.parametrize("end", ["release", "expire"])
def test_who_comes_back_too_late_is_told_why(daemon: Daemon, full: str, end: str) -> None:
    booking = f"{full}-me"
    if end == "release":
        ask(daemon, f"wait {full} 1 --seconds 1 --booking {booking}")
        ask(daemon, f"release {booking}")
    else:
        ask(daemon, f"release {full}-hold")
        ask(daemon, f"release {full}-2")
        assert ask(daemon, f"wait {full} 1 --seconds 1 --booking {booking}")["state"] == "held"
        with daemon.connect() as watcher:
            assert watcher.ask(f"watch --booking {booking}")["state"] == "held"
            while (told := watcher.read())["reply"] == "pong":
                pass
            assert told["state"] == "expired"
    done = ctl("wait", full, "1", "--seconds", "1", "--booking", booking, port=daemon.port)
    code, why = {"release": ("already_released", "has left"), "expire": ("hold_expired", "in time")}[end]
    assert done.returncode == 1
    assert done.stderr.startswith(f"ticketctl: {code}: booking {booking} ")
    assert why in done.stderr
    as_json = ctl("--json", "wait", full, "1", "--seconds", "1", "--booking", booking, port=daemon.port)
    assert msgspec.json.decode(as_json.stdout.splitlines()[-1])["code"] == code


def test_what_is_refused_or_lost_has_its_exit_status(daemon: Daemon) -> None:
    done = ctl("wait", "nope", "1", port=daemon.port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ticketctl: event_not_found: ")
    assert ctl("wait", "1", "0", port=daemon.port).returncode == 2
    with nobody() as port:
        assert ctl("wait", "1", "1", port=port).returncode == 3
    with lying(BREAK, BREAK) as liar:
        done = ctl("wait", "1", "1", "--booking", "b", port=liar.port)
    assert done.returncode == 4
    assert done.stderr.endswith(f"\n  ticketctl --port {liar.port} wait 1 1 --booking b\n")
    with lying(answer("error", code="busy", message="full", retry_after=1)) as liar:
        assert ctl("wait", "1", "1", port=liar.port).returncode == 5


@pytest.mark.parametrize("signum", [SIGTERM, SIGKILL])
def test_wait_goes_on_when_the_daemon_is_back(signum: Signals, tmp_path: Path) -> None:
    write_events(tmp_path, 1)
    with running(tmp_path) as daemon:
        ask(daemon, "hold 1 1 --booking h")
        with waiting("1", "1", "--booking", "me", port=daemon.port) as process:
            assert line(process)[3] == "waiting"
            daemon.end(signum)
            assert process.stderr
            lost = f"ticketctl: the connection to 127.0.0.1:{daemon.port} is lost; trying again\n"
            assert process.stderr.readline() == lost
            with running(tmp_path, "--port", str(daemon.port)) as again:
                assert process.stderr.readline() == "ticketctl: connected again\n"
                # Its place is still there, and what was known before is not shown again.
                ask(again, "release h")
                assert line(process)[3] == "held"
                assert over(process)[0] == 0


def test_wait_on_a_dumb_terminal_writes_a_sentence_for_each_change(daemon: Daemon, full: str) -> None:
    with on_terminal("wait", full, "1", "--booking", f"{full}-me", port=daemon.port, env={"TERM": "dumb"}) as child:
        child.expect(rf"\d\d:\d\d:\d\d {full}-me: number 3 in line for 1 ticket of event {full}\r\n")
        ask(daemon, f"release {full}-1")
        child.expect_exact("number 2 in line")
        ask(daemon, f"release {full}-hold")
        status, shown = ended(child)
    assert (status, shown.count(BELL)) == (0, 1)
    assert re.search(rf"{full}-me: 1 ticket of event {full}, held until .* UTC\n", shown)
    assert "\x1b" not in shown


def test_wait_in_the_shell_returns_to_the_prompt(daemon: Daemon, full: str, tmp_path: Path) -> None:
    with shell(daemon.port, tmp_path) as screen:
        screen.send(f"wait {full} 1 --booking {full}-me\r")
        screen.expect_exact("number 3 in line")
        screen.send(CTRL_C)
        assert f"  wait {full} 1 --booking {full}-me\r\nto leave:\r\n  release {full}-me\r\n" in prompted(
            screen, daemon.port
        )
        # What one waits for is completed where a booking belongs.
        screen.send(pasted("watch --booking "))
        screen.expect_exact(f"1 ticket of {full}, waiting")
        screen.send(TAB + "\r")
        screen.expect_exact("number 3 in line")
        screen.send(CTRL_C)
        prompted(screen, daemon.port)
        assert "wait EVENT QUANTITY" in entered(screen, daemon.port, "help wait")


def test_a_script_goes_on_once_the_tickets_are_held(daemon: Daemon, full: str) -> None:
    ask(daemon, f"release {full}-1")
    ask(daemon, f"release {full}-2")
    ask(daemon, f"release {full}-hold")
    script = f"wait {full} 2 --booking {full}-me\nconfirm {full}-me\n"
    done = ctl(port=daemon.port, stdin=script)
    assert [shown.split("\t")[3] for shown in done.stdout.splitlines()] == ["held", "confirmed"]
    # As JSON, it is the request alone.
    asked = {"cmd": "wait", "event": full, "quantity": 1, "booking": f"{full}-json"}
    done = ctl(port=daemon.port, stdin=msgspec.json.encode(asked))
    assert (done.returncode, done.stdout.split("\t")[3], done.stdout.count("\n")) == (0, "waiting", 1)


def test_wait_lets_no_control_characters_through() -> None:
    evil = booked(EVIL, event=EVIL, state="waiting", position=2)
    gone = answer("error", code="booking_not_found", message=EVIL)
    with lying(evil, PONG + gone) as liar:
        done = ctl("wait", "1", "1", port=liar.port)
    assert done.returncode == 1
    assert not STEERING.search(re.sub("[\n\t]", "", done.stdout + done.stderr))
    with lying(evil, PONG + gone) as liar, on_terminal("wait", "1", "1", port=liar.port) as child:
        status, shown = ended(child)
    assert status == 1
    assert ESCAPED[:20] in shown
    assert not re.search("\x1b\\[2J|[\x00\x7f\x9b\u2028\u202e]", shown)


def test_wait_ends_if_nothing_can_be_watched() -> None:
    waits = booked("b", state="waiting", position=2)
    with lying(waits, PONG + answer("event", id="1", name="E"), SILENCE) as liar:
        done = ctl("wait", "1", "1", "--booking", "b", port=liar.port)
    assert done.returncode == 3
    assert "does not speak ticketd's protocol" in done.stderr
