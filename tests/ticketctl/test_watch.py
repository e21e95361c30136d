"""ticketctl watch: a live table on a terminal, JSON lines in a pipe, until Ctrl-C."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any

import msgspec
import pytest

from tests.conftest import (
    BREAK,
    SECONDS_MAX,
    SILENCE,
    answer,
    booked,
    ctl,
    ended,
    interrupt,
    lying,
    nobody,
    start_ctl,
    terminal,
)
from tests.daemon import Daemon, running, until, write_events
from tests.screens import Screen
from tests.ticketctl.test_render import ESCAPED, EVIL, FACTS, STEERING
from tests.ticketctl.test_shell import CTRL_C, entered, prompted, shell

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

PONG = answer("pong")


@contextmanager
def watching(*words: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """Watch in a pipe."""
    with start_ctl("watch", *words, port=port) as process:
        try:
            yield process
        finally:
            process.kill()


def shown_next(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the next line that a watch wrote, waiting for it."""
    assert process.stdout
    line: dict[str, Any] = msgspec.json.decode(process.stdout.readline())
    return line


def over(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return the exit status of a watch that ends, and what else stood on stdout and stderr."""
    out, err = process.communicate(timeout=SECONDS_MAX)
    return process.returncode, out, err


def ask(daemon: Daemon, line: str) -> dict[str, Any]:
    with daemon.connect() as connection:
        return connection.ask(line)


def test_watch_in_a_pipe_writes_the_state_and_then_changes(daemon: Daemon) -> None:
    with watching(port=daemon.port) as process:
        state = [shown_next(process) for _ in range(3)]
        assert state == [ask(daemon, f"show {event}") for event in ("1", "2", "3")]
        ask(daemon, "book 2 5")
        assert shown_next(process) == {**state[1], "available": 195, "sold": 5, "version": 1}
        ask(daemon, "hold 3 7 --booking h")
        assert shown_next(process) == {**state[2], "available": 293, "held": 7, "version": 1}
        ask(daemon, "release h")
        assert shown_next(process) == {**state[2], "version": 2}
        assert interrupt(process) == (130, "", "")


def test_watch_shows_no_heartbeats() -> None:
    event, changed = (answer("event", id="1", name="E", **{**FACTS, "version": version}) for version in (4, 5))
    heartbeat = answer("pong", heartbeat=True)
    with lying(PONG + event + heartbeat * 2 + changed, SILENCE) as liar:
        done = ctl("watch", "--count", "1", port=liar.port)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (event + changed).decode()


def test_watch_of_one_event_shows_only_its_changes(daemon: Daemon) -> None:
    with watching("1", port=daemon.port) as process:
        state = shown_next(process)
        ask(daemon, "book 3 1")
        ask(daemon, "book 1 1")
        assert shown_next(process) == {
            **state,
            "available": state["available"] - 1,
            "sold": state["sold"] + 1,
            "version": 1,
        }


def test_watch_shows_a_hold_that_expires(daemon: Daemon) -> None:
    event = ask(daemon, "create Short 2027-03-11T20:00:00Z 5")["id"]
    with watching(event, port=daemon.port) as process:
        shown_next(process)
        ask(daemon, f"hold {event} 2 --seconds 1")
        assert shown_next(process)["held"] == 2
        assert shown_next(process)["available"] == 5


def test_watch_without_events_waits_for_the_first_one(tmp_path: Path) -> None:
    with running(tmp_path) as daemon, watching(port=daemon.port) as process:
        until(lambda: ask(daemon, "stats")["watchers"])
        ask(daemon, "create First 2027-03-11T20:00:00Z 5 --id first")
        assert shown_next(process)["id"] == "first"


def test_watch_does_not_time_out_while_nothing_changes() -> None:
    with lying(PONG, SILENCE) as liar, watching("--timeout", "0.5", port=liar.port) as process:
        assert liar.asked() == {"cmd": "ping"}
        assert liar.asked() == {"cmd": "watch"}
        assert interrupt(process) == (130, "", "")


def test_watch_exits_with_status_3_when_the_daemon_is_silent() -> None:
    with lying(SILENCE, SILENCE) as liar:
        done = ctl("watch", "--timeout", "0.5", port=liar.port)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"ticketctl: no reply from 127.0.0.1:{liar.port} within 0.5 s\n"


def test_watch_without_a_daemon_exits_with_status_3() -> None:
    with nobody() as port:
        done = ctl("watch", port=port)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"ticketctl: cannot reach 127.0.0.1:{port} (connection refused). Is ticketd running?\n"


def test_watch_of_a_full_daemon_exits_with_status_5() -> None:
    with lying(answer("error", code="too_many_connections", message="full", retry_after=1)) as liar:
        done = ctl("watch", port=liar.port)
    assert (done.returncode, done.stderr) == (5, "ticketctl: too_many_connections: full (again after 1 s)\n")


def test_watch_of_an_unknown_event_exits_with_status_1(daemon: Daemon) -> None:
    done = ctl("watch", "nope", port=daemon.port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ticketctl: event_not_found: there is no event nope")
    assert done.stderr.count("\n") == 1
    with terminal("watch", "nope", port=daemon.port) as screen:
        status, shown = ended(screen)
    assert status == 1
    assert "event_not_found" in shown
    assert "AVAILABLE" not in shown


@pytest.mark.parametrize("signum", [SIGTERM, SIGKILL])
def test_watch_goes_on_when_the_daemon_is_back_and_says_so(signum: Signals, tmp_path: Path) -> None:
    write_events(tmp_path, 10, 20)
    with running(tmp_path) as daemon, watching("--count", "2", port=daemon.port) as process:
        assert [shown_next(process)["id"] for _ in range(2)] == ["1", "2"]
        ask(daemon, "book 1 1")
        assert shown_next(process)["available"] == 9
        daemon.end(signum)
        assert process.stderr
        lost = f"ticketctl: the connection to 127.0.0.1:{daemon.port} is lost; trying again\n"
        assert process.stderr.readline() == lost
        with running(tmp_path, "--port", str(daemon.port)) as again:
            assert process.stderr.readline() == "ticketctl: connected again\n"
            # What was known before is not shown again, and is no change.
            ask(again, "book 2 5")
            assert shown_next(process) == {**ask(again, "show 2"), "reply": "event"}
            assert over(process) == (0, "", "")


def test_watch_without_events_goes_on_when_the_daemon_is_back(tmp_path: Path) -> None:
    with running(tmp_path) as daemon, watching("--count", "1", port=daemon.port) as process:
        until(lambda: ask(daemon, "stats")["watchers"])
        daemon.end()
        assert process.stderr
        assert process.stderr.readline().endswith("is lost; trying again\n")
        with running(tmp_path, "--port", str(daemon.port)) as again:
            assert process.stderr.readline() == "ticketctl: connected again\n"
            ask(again, "create First 2099-03-11T20:00:00Z 5 --id first")
            assert shown_next(process)["id"] == "first"
            ask(again, "book first 1")
            assert shown_next(process)["sold"] == 1
            assert over(process) == (0, "", "")


def test_watch_ends_when_its_event_is_gone_after_a_lost_connection() -> None:
    event = answer("event", id="1", name="E", **FACTS)
    gone = answer("error", code="event_not_found", message="there is no event 1")
    busy = answer("error", code="too_many_connections", message="full", retry_after=1)
    # It sends two lines at once, a ping and what it watches.
    with lying(PONG + event, BREAK, busy, BREAK, PONG + gone) as liar:
        done = ctl("watch", "1", port=liar.port)
    assert (done.returncode, done.stdout) == (1, event.decode())
    lost, again, refused = done.stderr.splitlines()
    assert lost.endswith("is lost; trying again")
    assert again == "ticketctl: connected again"
    assert refused == "ticketctl: event_not_found: there is no event 1"


def test_watch_ends_after_so_many_changes(daemon: Daemon) -> None:
    with watching("1", "--count", "2", port=daemon.port) as process:
        left = shown_next(process)["available"]
        for taken in (1, 2):
            ask(daemon, "book 1 1")
            assert shown_next(process)["available"] == left - taken
        assert over(process) == (0, "", "")


def test_watch_ends_after_so_many_seconds(daemon: Daemon) -> None:
    done = ctl("watch", "3", "--seconds", "1", port=daemon.port)
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--count", "0"), "count must be a whole number from 1 to"),
        (("--seconds", "soon"), "seconds must be a number above 0"),
        (("1", "2"), "one word too many; usage: watch [EVENT] [--booking ID] [--count N] [--seconds SECONDS]"),
        (("no event",), "event must be 1 to 64 of"),
    ],
)
def test_watch_refuses_wrong_words_without_connecting(words: tuple[str, ...], said: str) -> None:
    with nobody() as port:
        done = ctl("watch", *words, port=port)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_watch_ends_quietly_when_its_reader_has_gone(daemon: Daemon) -> None:
    with watching("2", port=daemon.port) as process:
        shown_next(process)
        assert process.stdout
        # Nothing changes any more, so nothing is written.
        process.stdout.close()
        assert process.wait(SECONDS_MAX) == 0
        assert process.stderr
        assert process.stderr.read() == ""


def test_watch_on_a_terminal_shows_a_live_table_with_bars(tmp_path: Path) -> None:
    write_events(tmp_path, 4_000, 300, available=(4_000, 150))
    with running(tmp_path) as daemon, terminal("watch", port=daemon.port) as screen:
        screen.expect_exact("░ AVAILABLE")
        screen.expect(r"Event 2[^\n]*█[^\n]*░[^\n]*150")
        ask(daemon, "book 1 1")
        screen.expect(r"Event 1[^\n]*░[^\n]*3999")
        ask(daemon, "hold 1 1000")
        screen.expect(r"Event 1[^\n]*▒[^\n]*░[^\n]*2999[^\n]*1000")
        screen.send(CTRL_C)
        status, shown = ended(screen)
    assert status == 130
    assert "Traceback" not in shown


def test_watch_draws_one_table_whatever_is_typed(daemon: Daemon) -> None:
    size = (20, 80)
    with terminal("watch", port=daemon.port, size=size) as child:
        screen = Screen(child, size)
        screen.until_text("Event 3")
        child.send("\r\rx\r")
        left = ask(daemon, "book 3 1")["available"]
        shown = screen.until(lambda lines: any(line.startswith("3 ") and f" {left} " in line for line in lines))
        assert [line.split()[0] for line in shown if "Event" in line or "AVAILABLE" in line] == ["ID", "3", "1", "2"]
        child.send(CTRL_C)
        left_behind = screen.ended()
    assert child.exitstatus == 130
    # What was there before is there again, and below it the table as it was last.
    assert [line.split()[0] for line in left_behind if "Event" in line or "AVAILABLE" in line] == ["ID", "3", "1", "2"]


def test_watch_keeps_ids_then_figures_then_names(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        long = ask(daemon, "create 'A very long name of a concert in the park' 2099-03-11T20:00:00Z 5000")["id"]
        ask(daemon, "create Jazz 2099-03-11T20:00:00Z 70 --id jazz --opens 2098-01-01T00:00:00Z")
        assert len(long) > 30
        for columns in (80, 60, 40):
            size = (20, columns)
            with terminal("watch", port=daemon.port, size=size) as child:
                head, first, second = Screen(child, size).until(lambda lines: len(lines) == 3)
            assert (first.split()[0], second.split()[0]) == (long, "jazz")
            assert ("AVAILABLE" in head, "NAME" in head) == (columns > 40, columns > 40)
            if columns > 40:
                left = head.index("AVAILABLE")
                assert (first[left:].split()[0], second[left:].split()[0]) == ("5000", "70")
                assert f"{long}  A v" in first


def test_watch_on_a_dumb_terminal_writes_a_line_for_each_change(daemon: Daemon) -> None:
    with terminal("watch", "2", "--count", "1", port=daemon.port, env={"TERM": "dumb"}) as screen:
        screen.expect_exact("2: ")
        left = ask(daemon, "book 2 1")["available"]
        status, shown = ended(screen)
    assert status == 0
    assert "\x1b" not in screen.before
    line = rf"\d\d:\d\d:\d\d 2: {left} of 200 available, 0 held, {200 - left} sold \(Event 2\)"
    assert re.fullmatch(line, shown.splitlines()[-1])


def test_watch_puts_changed_events_on_top(tmp_path: Path) -> None:
    write_events(tmp_path, 100, 200, 300)
    with running(tmp_path) as daemon, terminal("watch", port=daemon.port) as screen:
        screen.expect(r"(?s)Event 1.*Event 2.*Event 3")
        ask(daemon, "book 2 1")
        screen.expect(r"(?s)AVAILABLE[^\n]*\n[^\n]*Event 2[^\n]*199.*Event 1.*Event 3")


def test_watch_counts_events_that_do_not_fit_on_the_terminal() -> None:
    events = b"".join(answer("event", id=f"e{number}", name="E", **FACTS) for number in range(60))
    with lying(PONG, events) as liar, terminal("watch", port=liar.port) as screen:
        screen.expect_exact("and 24 more")


def test_watch_ends_if_what_answers_is_not_ticketd() -> None:
    with lying(booked("anna-1", state="held")) as liar:
        done = ctl("watch", port=liar.port)
    assert (done.returncode, done.stdout) == (3, "")
    assert "does not speak ticketd's protocol: it answers ping with booking" in done.stderr


def test_ctrl_c_during_watch_returns_to_the_prompt(daemon: Daemon, tmp_path: Path) -> None:
    with shell(daemon.port, tmp_path) as screen:
        for _ in range(2):
            screen.send("watch\r")
            screen.expect_exact("░ AVAILABLE")
            screen.send(CTRL_C)
            assert "Traceback" not in prompted(screen, daemon.port)
            assert "pong" in entered(screen, daemon.port, "ping")


def test_watch_in_the_shell_says_that_the_daemon_is_gone(tmp_path: Path) -> None:
    write_events(tmp_path, 10)
    with running(tmp_path) as daemon, shell(daemon.port, tmp_path) as screen:
        screen.send("watch\r")
        screen.expect_exact("░ AVAILABLE")
        daemon.kill()
        screen.expect_exact("trying again")
        screen.send(CTRL_C)
        prompted(screen, daemon.port)
        assert "cannot reach" in entered(screen, daemon.port, "ping")


def test_watch_lets_no_control_characters_through() -> None:
    event = answer("event", id=EVIL, name=EVIL, **FACTS)
    with lying(PONG, event) as liar, watching(port=liar.port) as process:
        assert process.stdout
        line = process.stdout.readline()
    assert not STEERING.search(line[:-1])
    assert msgspec.json.decode(line)["name"] == EVIL
    with lying(PONG, event) as liar, terminal("watch", port=liar.port) as screen:
        screen.expect_exact(ESCAPED[:20])
        screen.send(CTRL_C)
        status, shown = ended(screen)
    assert status == 130
    assert not re.search("\x1b\\[2J|[\x00\x7f\x9b\u2028\u202e]", shown)


def test_nonsense_figures_do_not_break_the_watch_table() -> None:
    nonsense = {**FACTS, "capacity": 0, "available": -5, "held": 10**18, "sold": -(10**18)}
    with (
        lying(PONG, answer("event", id="1", name="E", **nonsense)) as liar,
        terminal("watch", port=liar.port) as screen,
    ):
        screen.expect(rf"-5 +{10**18} +-{10**18} +0")
