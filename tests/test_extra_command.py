"""A new command is a Struct, a row with its function, and a test: everything else follows from these."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import BREAK, environment, lying
from tests.daemon import Daemon, running, write_events
from ticketd.rules.commands import TABLE
from ticketd.wire.commands import commands

SECONDS_MAX = 60.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    write_events(folder, 100)
    # What is imported early knows only the other commands.
    with running(folder, module="tests.extra_command", anew=True) as daemon:
        yield daemon


def run(*arguments: str) -> tuple[int, str, str]:
    """Run ``tests.extra_command``; return its exit status, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.extra_command", *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=SECONDS_MAX,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


def test_every_command_has_a_row() -> None:
    requests = {command.request for command in commands().values()}
    assert requests <= TABLE.keys()


def test_it_is_decided_in_order_with_what_is_sent_beside_it(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        before = connection.ask("show 1")
        connection.send(b'{"cmd":"grow","event":"1","by":3}\nbook 1 1\ngrow 1\npeek 1\nshow 1\n')
        grown, booked, again, peeked, shown = (connection.read() for _ in range(5))
    assert grown["capacity"] == before["capacity"] + 3
    assert booked["version"] == grown["version"] + 1
    assert again["capacity"] == before["capacity"] + 4
    assert peeked == {"reply": "peek", "available": again["available"]}
    assert shown == again
    daemon.wait_line("INFO grew event=1")


def test_its_errors_name_the_field_and_the_bounds(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        assert connection.ask('{"cmd":"grow","event":"1","by":501}')["message"] == (
            "by must be a whole number from 1 to 500, not 501"
        )
        assert "usage: grow EVENT [--by N]" in connection.ask("grow")["message"]
        assert connection.ask("grow nope")["code"] == "event_not_found"


def test_it_is_in_help_and_in_the_tables_of_the_docs(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        [told] = connection.ask("help grow")["commands"]
        assert told["usage"] == "grow EVENT [--by N]"
        assert "did you mean grow? " in connection.ask("grwo")["message"]
    _, table, _ = run("table", "grow")
    assert table.startswith("`grow EVENT [--by N]` — Put more tickets of an event on sale. Role: `manager`.\n")
    assert "| `by` | optional | a whole number from 1 to 500 | how many more |" in table
    _, help_text, _ = run("ticketctl", "--help")
    assert "Put more tickets of an event on sale." in help_text


def test_ticketctl_runs_it_and_its_status_tells_the_truth(daemon: Daemon) -> None:
    where = ("ticketctl", "--port", str(daemon.port))
    status, out, _ = run(*where, "grow", "1", "--by", "2")
    assert (status, out.split("\t")[0]) == (0, "1")
    status, out, _ = run(*where, "peek", "1")
    assert status == 0
    assert out.startswith("available\t")
    status, _, err = run(*where, "grow", "nope")
    assert status == 1
    assert "event_not_found" in err


@pytest.mark.parametrize(("command", "status"), [("grow", 4), ("peek", 3)])
def test_only_a_lost_write_has_an_unknown_outcome(command: str, status: int) -> None:
    with lying(BREAK, BREAK) as liar:
        assert run("ticketctl", "--port", str(liar.port), command, "1")[0] == status
