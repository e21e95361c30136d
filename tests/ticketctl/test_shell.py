"""The shell, as somebody at a terminal meets it."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BREAK, SILENCE, answer, ctl, ended, lying, nobody, terminal
from tests.daemon import Daemon, running, write_events
from tests.screens import Screen
from ticketctl.commands import known
from ticketctl.shell import toolbar

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

CTRL_C = "\x03"
CTRL_D = "\x04"
TAB = "\t"
UP = "\x1b[A"


@contextmanager
def shell(port: int, state: Path) -> Iterator[Any]:
    """A shell whose history is under ``state``, at its first prompt."""
    with terminal(port=port, env={"XDG_STATE_HOME": str(state)}) as screen:
        prompted(screen, port)
        yield screen


def prompted(screen: Any, port: int) -> str:
    """Wait for a new prompt; return what was shown before it."""
    # A prompt begins with switching bracketed paste on; where it is only drawn again, it does not.
    screen.expect(rf"\x1b\[\?2004h[^>]*127\.0\.0\.1:{port}>")
    shown: str = screen.before
    return shown


def entered(screen: Any, port: int, line: str) -> str:
    """Type a line; return what is shown until the next prompt."""
    screen.send(line + "\r")
    return prompted(screen, port)


def pasted(text: str) -> str:
    """What a terminal sends for text from the clipboard: it is there at once, and completed only as a whole."""
    return f"\x1b[200~{text}\x1b[201~"


def available(daemon: Daemon, event: str) -> int:
    with daemon.connect() as connection:
        left: int = connection.ask(f"show {event}")["available"]
        return left


def test_the_shell_greets_with_the_daemon_and_its_events(daemon: Daemon, tmp_path: Path) -> None:
    with terminal(port=daemon.port, env={"XDG_STATE_HOME": str(tmp_path)}) as screen:
        greeting = prompted(screen, daemon.port)
    assert f"at 127.0.0.1:{daemon.port}, 3 events" in greeting


def test_the_shell_makes_and_shows_a_booking(daemon: Daemon, tmp_path: Path) -> None:
    left = available(daemon, "1")
    with shell(daemon.port, tmp_path) as screen:
        shown = entered(screen, daemon.port, "book 1 2")
    assert f"2 tickets of event 1, confirmed; {left - 2} left" in shown
    assert available(daemon, "1") == left - 2


def test_tab_completes_commands_and_finds_events_by_name(daemon: Daemon, tmp_path: Path) -> None:
    with daemon.connect() as connection:
        event = connection.ask('create "Gala d\'été" 2027-03-11T20:00:00Z 7')["id"]
    with shell(daemon.port, tmp_path) as screen:
        screen.send(pasted("bo"))
        # What is offered is there once it is seen.
        screen.expect_exact("Buy tickets of an event.")
        screen.send(TAB + pasted(" ÉTÉ"))
        screen.expect_exact("Gala d'été, 7 left")
        shown = entered(screen, daemon.port, TAB + " 3")
    assert f"3 tickets of event {event}, confirmed; 4 left" in shown


def test_tab_completes_the_reports_and_options_of_export(daemon: Daemon, tmp_path: Path) -> None:
    with daemon.connect() as connection:
        connection.ask("create Opera 2027-03-11T20:00:00Z 7 --id opera")
        connection.ask("book opera 3")
    with shell(daemon.port, tmp_path) as screen:
        screen.send(pasted("export ti"))
        screen.expect_exact("what to write")
        screen.send(TAB + pasted("--ev"))
        screen.expect_exact("only what belongs to the event")
        screen.send(TAB + pasted("OPERA"))
        screen.expect_exact("Opera, 4 left")
        shown = entered(screen, daemon.port, TAB)
    assert "\n3 tickets" in shown


def test_tab_completes_the_command_that_auto_repeats(daemon: Daemon, tmp_path: Path) -> None:
    with shell(daemon.port, tmp_path) as screen:
        screen.send(pasted("auto bo"))
        screen.expect_exact("Buy tickets of an event.")
        screen.send(TAB + pasted("Event"))
        screen.expect_exact("Event 2, 200 left")
        shown = entered(screen, daemon.port, TAB + pasted("1 2 0"))
    assert "2 of 2 requests" in shown


def test_tab_completes_the_kinds_that_show_takes(daemon: Daemon, tmp_path: Path) -> None:
    with daemon.connect() as connection:
        connection.ask("book 1 1 --booking 1")
    with shell(daemon.port, tmp_path) as screen:
        screen.send(pasted("show 1 --kind bo"))
        screen.expect_exact("which of them, if several have this id")
        shown = entered(screen, daemon.port, TAB)
    assert "booking 1: 1 ticket of event 1, confirmed" in shown


def test_tab_completes_flags_and_options_with_dashes(daemon: Daemon, tmp_path: Path) -> None:
    with daemon.connect() as connection:
        connection.ask("create Flags 2037-03-11T20:00:00Z 7 --id flags --opens 2037-01-01T10:00:00Z")
    with shell(daemon.port, tmp_path) as screen:
        screen.send(pasted("amend flags --pau"))
        screen.expect_exact("whether its sale is paused")
        # A flag has no value, so that the next word is an option again.
        screen.send(TAB + pasted("--per"))
        # What stands on the screen already is not drawn again, so that only the end of a text can be waited for.
        screen.expect_exact("buyer may have; without it, any number")
        screen.send(TAB + pasted("4 --ope"))
        screen.expect_exact("begins; without it, at once")
        screen.send(TAB + pasted("no"))
        screen.expect_exact("opens any more")
        shown = entered(screen, daemon.port, TAB)
        assert "PER_BUYER" in shown
        assert "OPENS" not in shown
        screen.send(pasted("amend flags --no-"))
        screen.expect_exact("whether its sale is paused")
        shown = entered(screen, daemon.port, TAB + pasted("--name Again"))
        assert "Again" in shown
        assert "PAUSED" not in shown
        screen.send(pasted("export events --c"))
        screen.expect_exact("write CSV with a header line")
        assert "--no-csv" not in screen.before + entered(screen, daemon.port, TAB)


def test_the_shell_reads_times_in_the_zone_of_the_person(daemon: Daemon, tmp_path: Path) -> None:
    words = ("--timezone", "Europe/Berlin")
    with terminal(*words, port=daemon.port, env={"XDG_STATE_HOME": str(tmp_path)}) as screen:
        prompted(screen, daemon.port)
        shown = entered(screen, daemon.port, "create Summer '2037-07-11 20:00' 5")
    assert "2037-07-11 20:00 CEST is 2037-07-11T18:00:00Z" in shown


def test_tab_offers_no_event_whose_id_is_none(tmp_path: Path) -> None:
    facts = {"date": "2027-03-11T20:00:00Z", "capacity": 9, "available": 7, "held": 0, "sold": 2, "version": 1}
    ids = ["a\u202eb", "x\nbook", "\x1b[31m", "good"]
    events = answer("events", events=[{"id": id, "name": f"Name {id}", **facts} for id in ids])
    # Its connection is closed, so that the server has time for that of the completion.
    with lying(BREAK, BREAK, events) as liar, shell(liar.port, tmp_path) as screen:
        screen.send(pasted("book name"))
        screen.expect_exact("Name good, 7 left")
        assert "Name a" not in screen.before
        assert "\u202e" not in screen.before + screen.after


@pytest.mark.parametrize("columns", [200, 80, 60, 40])
def test_the_toolbar_shows_the_syntax_of_every_command(columns: int) -> None:
    for name, command in known().items():
        shown = toolbar(f"  {name} 1", columns)
        assert " ".join(shown.split()) == f"{command.usage} {command.summary}"
        assert f" {name}" in " ".join(toolbar("frob", columns).split())
        assert max(map(len, shown.split("\n"))) <= columns
    assert toolbar("? book", columns) == toolbar("help book", columns)
    assert max(map(len, toolbar("", columns).split("\n"))) <= columns


@pytest.mark.parametrize("size", [(24, 80), (20, 60)])
def test_the_menu_and_the_toolbar_fit_the_terminal(daemon: Daemon, tmp_path: Path, size: tuple[int, int]) -> None:
    with daemon.connect() as connection:
        connection.ask("create Festival 2037-03-11T20:00:00Z 7 --id festival")
    # The toolbar is there once it is known where the cursor is.
    env = {"XDG_STATE_HOME": str(tmp_path), "PROMPT_TOOLKIT_NO_CPR": "0"}
    with terminal(port=daemon.port, env=env, size=size) as child:
        screen = Screen(child, size)
        screen.until_text(">")
        child.send(pasted("hold fes"))
        screen.until_text("Festival, 7 left")
        shown = screen.until_text(known()["hold"].summary)
        prompt = next(at for at, line in enumerate(shown) if line.endswith("> hold fes"))
        assert shown[prompt + 1].split() == ["festival", "Festival,", "7", "left"]
        *usage, _ = shown[prompt + 2 :]
        assert " ".join(line.strip() for line in usage) == known()["hold"].usage
        child.send("\x15" + pasted("create"))
        screen.until_text("[--per-buyer N]")


def test_tab_completes_the_bookings_and_tickets_that_were_shown(daemon: Daemon, tmp_path: Path) -> None:
    with daemon.connect() as connection:
        connection.ask("hold 3 1 --booking other-0")
    with shell(daemon.port, tmp_path) as screen:
        entered(screen, daemon.port, "hold 3 2 --booking lately-1")
        screen.send(pasted("confirm l"))
        screen.expect_exact("2 tickets of 3, held")
        assert "2 tickets of event 3, confirmed" in entered(screen, daemon.port, TAB)
        screen.send(pasted("redeem lately-1."))
        screen.expect_exact("a ticket of 3")
        assert "other-0" not in screen.before
        assert "booking lately-1, redeemed" in entered(screen, daemon.port, TAB)


def test_tab_completes_the_file_to_import(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "autumn.json").write_text('{"events":[]}')
    with shell(daemon.port, tmp_path) as screen:
        screen.send(pasted(f"import {tmp_path}/aut"))
        screen.expect_exact("autumn.json")
        assert "autumn.json has no events" in entered(screen, daemon.port, TAB)


def test_quit_and_a_question_mark_do_what_exit_and_help_do(daemon: Daemon, tmp_path: Path) -> None:
    with shell(daemon.port, tmp_path) as screen:
        assert "book EVENT QUANTITY" in entered(screen, daemon.port, "?")
        assert "import FILE" in entered(screen, daemon.port, "? import")
        screen.send("quit\r")
        assert ended(screen)[0] == 0
    assert ctl("quit").returncode == 0


def test_a_mistyped_command_is_asked_about_and_not_run(daemon: Daemon, tmp_path: Path) -> None:
    left = available(daemon, "2")
    with shell(daemon.port, tmp_path) as screen:
        shown = entered(screen, daemon.port, "boook 2 1")
        said = 'there is no command "boook"; did you mean book? help lists the commands'
        assert said in " ".join(shown.split())
        assert "did you mean export or exit?" in entered(screen, daemon.port, "help exprot")
    assert available(daemon, "2") == left


def test_lines_of_json_work_in_the_shell(daemon: Daemon, tmp_path: Path) -> None:
    with shell(daemon.port, tmp_path) as screen:
        assert "pong" in entered(screen, daemon.port, '{"cmd":"ping"} # hello')


def test_ctrl_c_discards_the_typed_line_and_the_shell_goes_on(daemon: Daemon, tmp_path: Path) -> None:
    left = available(daemon, "1")
    with shell(daemon.port, tmp_path) as screen:
        screen.send("book 1 1" + CTRL_C)
        prompted(screen, daemon.port)
        assert "pong" in entered(screen, daemon.port, "ping")
    assert available(daemon, "1") == left


def test_ctrl_c_ends_a_running_command_and_the_shell_goes_on(tmp_path: Path) -> None:
    greeting = answer("error", code="busy", message="full")
    with lying(greeting, SILENCE, answer("pong")) as liar, shell(liar.port, tmp_path) as screen:
        liar.asked()
        screen.send("ping\r")
        liar.asked()
        screen.send(CTRL_C)
        assert "interrupted" in prompted(screen, liar.port)
        assert "pong" in entered(screen, liar.port, "ping")


@pytest.mark.parametrize("leave", [CTRL_D, "exit\r", "  exit \r"])
def test_ctrl_d_and_exit_leave_the_shell_with_status_0(daemon: Daemon, tmp_path: Path, leave: str) -> None:
    with shell(daemon.port, tmp_path) as screen:
        entered(screen, daemon.port, "book nope 1")
        screen.send(leave)
        assert ended(screen)[0] == 0


def test_the_shell_reports_a_bad_line_and_goes_on(daemon: Daemon, tmp_path: Path) -> None:
    with shell(daemon.port, tmp_path) as screen:
        for line, said in [
            ("frob", "unknown_command"),
            ("book 1 0", "quantity must be"),
            ("book 1 '1", "quot"),
            ("auto list 0 0", "REQUESTS"),
            ("show nope", "not_found"),
            ("export sales", "what must be one of events, bookings, tickets"),
            ("import -", "standard input has the commands"),
            ("exit now", "one word too many"),
        ]:
            shown = entered(screen, daemon.port, line)
            assert said in shown
            assert "Traceback" not in shown
        assert "pong" in entered(screen, daemon.port, "ping")


def test_pasted_lines_run_one_after_the_other(daemon: Daemon, tmp_path: Path) -> None:
    with shell(daemon.port, tmp_path) as screen:
        shown = entered(screen, daemon.port, pasted("# two\nping\nbook nope 1"))
    assert shown.index("pong") < shown.index("event_not_found")


def test_auto_and_help_work_in_the_shell(daemon: Daemon, tmp_path: Path) -> None:
    with shell(daemon.port, tmp_path) as screen:
        assert "2 done, refused: none" in entered(screen, daemon.port, "auto ping 2 0")
        assert "book EVENT QUANTITY" in entered(screen, daemon.port, "help")
        assert "import FILE" in entered(screen, daemon.port, "help import")


def test_the_shell_history_is_private_and_kept_for_next_time(daemon: Daemon, tmp_path: Path) -> None:
    with shell(daemon.port, tmp_path) as screen:
        entered(screen, daemon.port, "show something-unusual")
    history = tmp_path / "ticketctl" / "history"
    assert "show something-unusual" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    with shell(daemon.port, tmp_path) as screen:
        assert "not_found: " in entered(screen, daemon.port, UP)


def test_the_shell_starts_without_a_writable_state_directory(daemon: Daemon, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    with shell(daemon.port, in_the_way) as screen:
        assert "pong" in entered(screen, daemon.port, "ping")


def test_the_shell_starts_without_a_daemon_and_says_what_to_do(tmp_path: Path) -> None:
    with nobody() as port, terminal(port=port, env={"XDG_STATE_HOME": str(tmp_path)}) as screen:
        greeting = prompted(screen, port)
        assert f"cannot reach 127.0.0.1:{port} (connection refused). Is ticketd running?" in greeting
        assert "book EVENT QUANTITY" in entered(screen, port, "help")
        screen.send(CTRL_D)
        assert ended(screen)[0] == 0


def test_the_shell_reports_a_killed_daemon_once_and_reconnects(tmp_path: Path) -> None:
    write_events(tmp_path, 10)
    with running(tmp_path) as daemon, shell(daemon.port, tmp_path) as screen:
        port = daemon.port
        assert "9 left" in entered(screen, port, "book 1 1")
        daemon.kill()
        shown = entered(screen, port, "book 1 1")
        assert shown.count("cannot reach") == 1
        assert "Is ticketd running?" in shown
        with running(tmp_path, "--port", str(port)):
            again = entered(screen, port, "book 1 1")
    assert "8 left" in again
    assert "cannot reach" not in again
