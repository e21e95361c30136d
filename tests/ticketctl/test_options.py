"""The options: short ones, those that are wrong, and waiting for a daemon."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.conftest import SECONDS_MAX, SILENCE, answer, ctl, environment, lying, nobody
from tests.daemon import Daemon, running


def test_host_port_and_version_have_short_flags(daemon: Daemon) -> None:
    assert ctl("-H", "127.0.0.1", "-p", str(daemon.port), "ping").stdout == "pong\n"
    assert ctl("ping", f"-p{daemon.port}", "-q").returncode == 0
    assert ctl("-V").stdout == ctl("--version").stdout


@pytest.mark.parametrize(
    ("host", "instead"),
    [
        ("127.0.0.1:8080", "127.0.0.1 --port 8080"),
        ("tickets.example:9000", "tickets.example --port 9000"),
        ("http://127.0.0.1:8080/", "127.0.0.1 --port 8080"),
        ("tcp://tickets.example", "tickets.example"),
        ("[::1]", "::1"),
        ("[::1]:8080", "::1 --port 8080"),
    ],
)
def test_a_host_with_more_than_a_name_is_told_apart(host: str, instead: str) -> None:
    said = f'must be a name or an address alone, not "{host}"; write --host {instead}\n'
    flag, variable = ctl("--host", host, "ping"), ctl("ping", env={"TICKETD_HOST": host})
    assert (flag.returncode, variable.returncode) == (2, 2)
    assert flag.stderr.endswith(f"--host {said}")
    assert variable.stderr.endswith(f"TICKETD_HOST {said}")


def test_a_wrong_port_is_named_as_it_was_given() -> None:
    variable = ctl("list", env={"TICKETD_PORT": "eighty"})
    flag = ctl("list", "--port", "70000", env={"TICKETD_PORT": "eighty"})
    assert (variable.returncode, flag.returncode) == (2, 2)
    assert 'TICKETD_PORT must be a whole number from 1 to 65535, not "eighty"' in variable.stderr
    assert '--port must be a whole number from 1 to 65535, not "70000"' in flag.stderr
    # Help is there all the same.
    assert ctl("--help", env={"TICKETD_PORT": "eighty"}).returncode == 0


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--prot", 'there is no option "--prot"; did you mean --port?'),
        ("--tokn-file=secret", 'there is no option "--tokn-file"; did you mean --token-file?'),
        ("--colour", 'there is no option "--colour"; ticketctl --help lists them'),
    ],
)
def test_a_mistyped_option_is_named_without_its_value(option: str, said: str) -> None:
    done = ctl(option, "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"error: {said}\n")
    assert "secret" not in done.stderr


def test_wait_waits_until_the_daemon_has_started(tmp_path: Path) -> None:
    with nobody() as port:
        waiting = subprocess.Popen(
            [sys.executable, "-m", "ticketctl", "-p", str(port), "--wait", "30", "ping"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
    with running(tmp_path, "--port", str(port)):
        assert (waiting.communicate(timeout=SECONDS_MAX)[0], waiting.returncode) == ("pong\n", 0)


def test_wait_waits_for_a_daemon_that_was_ending() -> None:
    ending = answer("error", code="shutting_down", message="the daemon is ending")
    with lying(ending, answer("pong"), answer("ready")) as liar:
        assert ctl("--wait", "30", "ready", port=liar.port).stdout == "ready\n"


def test_wait_ends_when_its_time_is_over() -> None:
    with nobody() as port:
        gone = ctl("--wait", "0.1", "ping", port=port)
        told = ctl("--wait", "0.1", "--json", "ping", port=port)
    assert (gone.returncode, gone.stdout) == (3, "")
    assert gone.stderr == (
        f"ticketctl: no answer within 0.1 s: cannot reach 127.0.0.1:{port} (connection refused). Is ticketd running?\n"
    )
    assert msgspec.json.decode(told.stdout)["code"] == "cannot_connect"
    with lying(SILENCE) as liar:
        silent = ctl("--wait", "0.2", "ping", port=liar.port)
    assert (silent.returncode, silent.stderr.count("no answer within 0.2 s")) == (3, 1)


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan"])
def test_wait_takes_seconds(seconds: str) -> None:
    done = ctl(f"--wait={seconds}", "ping")
    assert (done.returncode, "--wait must be a number above 0, up to 86400" in done.stderr) == (2, True)


@pytest.mark.parametrize("columns", ["80", "60"])
def test_the_help_fits_and_lists_every_command(columns: str) -> None:
    helped = ctl("--help", env={"COLUMNS": columns}).stdout
    assert max(map(len, helped.splitlines())) <= 80
    for text in ("  book        Buy tickets of an event.\n", "\n  auto ", "\n  export ", "\n  import ", "\n  exit "):
        assert text in helped
    assert "\nexamples:\n" in helped
    assert "  ticketctl book jazz 2  " in helped
