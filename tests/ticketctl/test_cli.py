"""The command line: options and their environment, streams, scripts on standard input, help."""

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.conftest import SECONDS_MAX, command_line, ctl, ended, environment, nobody, terminal
from tests.daemon import Daemon
from ticketctl.commands import known

USAGES = {name: command.usage for name, command in known().items()}


def available(daemon: Daemon, event: str) -> int:
    with daemon.connect() as connection:
        left: int = connection.ask(f"show {event}")["available"]
        return left


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["frob"], '"frob"'),
        ([""], '""'),
        (["book", "1", "0"], "quantity must be"),
        (["book", "1", "-5"], "quantity must be"),
        (["book", "1", "1_0"], "quantity must be"),
        (["book", "1"], "quantity"),
        (["book", "1", "1", "1"], "one word too many"),
        (["create", "Jazz", "Night", "2027-03-11T20:00:00Z", "5"], "quotes"),
        (["create", "Jazz", "2027-03-11", "20:00", "5"], "quotes around a name or a time"),
        (["create", "Jazz", "2027-03-11", "5"], "date must be"),
        (["create", "a\x1bb", "2027-03-11T20:00:00Z", "5"], "U+001B"),
        (["create", os.fsdecode(b"\xff"), "2027-03-11T20:00:00Z", "5"], "bad_frame: this is not UTF-8"),
        (["--frob", "list"], "--frob"),
        (["list", "--frob"], "--frob"),
        (["list", "--port"], "--port"),
        (["list", "--port", "0"], "port"),
        (["list", "--port", "65536"], "port"),
        (["list", "--port", "٣"], "port"),
        (["list", "--timeout", "0"], "--timeout"),
        (["list", "--timeout", "nan"], "--timeout must be a number above 0, up to 86400"),
        (["list", "--timeout", "86401"], "--timeout"),
        (["exit", "now"], "usage: exit"),
        (["help", "frob"], '"frob"'),
    ],
)
def test_wrong_usage_exits_with_status_2_without_connecting(words: list[str], said: str) -> None:
    with nobody() as port:
        done = ctl(*words, env={"TICKETD_PORT": str(port)})
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_json_prints_one_object_per_line_failures_included(daemon: Daemon) -> None:
    script = "ping\nfrob\nbook nope 1\nbook 1 1\nlist"
    done = ctl("--json", port=daemon.port, stdin=script)
    assert (done.returncode, done.stderr) == (2, "")
    replies = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    assert [each["reply"] for each in replies] == ["pong", "error", "error", "booking", "events"]
    assert [each["code"] for each in replies[1:3]] == ["unknown_command", "event_not_found"]
    with nobody() as port:
        failed = ctl("--json", "ping", port=port)
    assert (failed.returncode, failed.stderr) == (3, "")
    assert msgspec.json.decode(failed.stdout)["code"] == "cannot_connect"


def test_quiet_shows_failures_only(daemon: Daemon) -> None:
    assert ctl("-q", "book", "3", "1", port=daemon.port).stdout == ""
    assert available(daemon, "3") == 299
    failed = ctl("book", "nope", "1", "--quiet", port=daemon.port)
    assert (failed.stdout, failed.stderr.count("\n")) == ("", 1)


def test_options_work_before_or_after_the_command(daemon: Daemon) -> None:
    where = ["--host", "127.0.0.1", f"--port={daemon.port}", "--json", "--timeout", "20"]
    before, after = ctl(*where, "list"), ctl("list", *where)
    assert (before.returncode, before.stdout) == (0, after.stdout)
    assert before.stdout.startswith('{"reply":"events"')


def test_address_options_override_the_environment(daemon: Daemon) -> None:
    assert ctl("ping", env={"TICKETD_PORT": str(daemon.port), "TICKETD_HOST": "127.0.0.1"}).stdout == "pong\n"
    with nobody() as port:
        away = {"TICKETD_HOST": "localhost", "TICKETD_PORT": str(port)}
        assert f"localhost:{port} " in ctl("ping", env=away).stderr
        assert ctl("ping", "--host", "127.0.0.1", port=daemon.port, env=away).stdout == "pong\n"


@pytest.mark.parametrize("words", [("ping",), ("auto", "ping", "2", "0"), ("help",), ("--help",), ("frob",)])
def test_a_command_leaves_standard_input_alone(daemon: Daemon, words: tuple[str, ...], tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("book 1 1\n")
    with script.open() as stdin:
        command = command_line(words, daemon.port)
        subprocess.run(command, stdin=stdin, capture_output=True, env=environment(), timeout=SECONDS_MAX)
        assert os.lseek(stdin.fileno(), 0, os.SEEK_CUR) == 0


def test_a_command_works_where_standard_input_is_closed(daemon: Daemon) -> None:
    closed = ["sh", "-c", '"$@" <&-', "sh"]
    done = subprocess.run(
        [*closed, *command_line(("ping",), daemon.port)], capture_output=True, env=environment(), timeout=SECONDS_MAX
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"pong\n", b"")


def test_a_closed_output_pipe_causes_no_traceback(daemon: Daemon) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            command_line(("list",), daemon.port),
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=SECONDS_MAX,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_list_loads_nothing_that_takes_long_to_load(daemon: Daemon) -> None:
    look = (
        "import sys; from ticketctl.cli import main\n"
        "try: main()\n"
        "except SystemExit as ended: print(ended.code, *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", look, *command_line(("list",), daemon.port)[3:]],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=SECONDS_MAX,
    )
    status, *modules = done.stderr.split()
    assert (status, done.stdout[:2]) == ("0", "1\t")
    assert "ticketctl.commands" in modules
    assert not {"rich", "prompt_toolkit", "asyncio", "zoneinfo", "shtab", "anyascii", "difflib"} & {
        module.partition(".")[0] for module in modules
    }


def test_help_for_every_command_works_without_a_daemon() -> None:
    everything = ctl("--help")
    assert everything.returncode == 0
    with nobody() as port:
        asked = ctl(port=port, stdin="".join(f"help {name}\n" for name in USAGES))
        # Nor does it need what a connection needs.
        env = {"TICKETD_TOKEN_FILE": "/nowhere"}
        helped = [ctl(name, "--help", port=port, env=env).stdout for name in ("book", "export")]
    assert (asked.returncode, asked.stderr) == (0, "")
    for name, usage in USAGES.items():
        assert f"\n  {name} " in everything.stdout
        assert f"\n{usage}\n  " in f"\n{asked.stdout}"
    for text in helped:
        assert text in asked.stdout
    assert re.search(r"^  quantity +how many tickets; a whole number from 1 to 1000$", helped[0], re.M)
    assert re.search(r"^  seconds +for how long; 300 if left out; ", asked.stdout, re.M)


def test_a_script_skips_comments_and_numbers_the_lines_of_errors(daemon: Daemon) -> None:
    script = "# buy\n\n  \t\nping\r\n  # indented\nfrob\nbook nope 1\nbook 1 'x\nping"
    done = ctl(port=daemon.port, stdin=script)
    assert done.stdout == "pong\npong\n"
    errors = done.stderr.splitlines()
    assert [error.split(": ")[:3] for error in errors] == [
        ["ticketctl", "line 6", "unknown_command"],
        ["ticketctl", "line 7", "event_not_found"],
        ["ticketctl", "line 8", "bad_request"],
    ]
    assert done.returncode == 2


def test_a_script_exits_with_the_status_of_its_first_failure(daemon: Daemon) -> None:
    assert ctl(port=daemon.port, stdin="ping\nbook nope 1\nfrob\nping\n").returncode == 1
    assert ctl(port=daemon.port, stdin="frob\nbook nope 1\n").returncode == 2
    assert ctl(port=daemon.port, stdin="ping\n").returncode == 0
    assert ctl(port=daemon.port, stdin="").returncode == 0


def test_bail_ends_a_script_at_its_first_failure(daemon: Daemon) -> None:
    done = ctl("--bail", port=daemon.port, stdin="ping\nbook nope 1\nfrob\nping\n")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "pong\n", 1)


def test_exit_alone_succeeds_without_connecting() -> None:
    with nobody() as port:
        done = ctl("exit", port=port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_exit_ends_a_script(daemon: Daemon) -> None:
    done = ctl(port=daemon.port, stdin="ping\nexit\nfrob\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "pong\n", "")


def test_a_script_refuses_a_non_utf_8_line_and_goes_on(daemon: Daemon) -> None:
    left = available(daemon, "1")
    bad_name = b'create "\xff\xfe" 2027-03-11T20:00:00Z 5\n'
    done = ctl(port=daemon.port, stdin=b"book\xff 1 1\n" + bad_name + b"p\xc3ing\nping\n")
    assert (done.returncode, done.stdout) == (2, "pong\n")
    assert re.findall(r"line (\d)", done.stderr) == ["1", "2", "3"]
    assert available(daemon, "1") == left


@pytest.mark.parametrize("columns", [80, 60])
def test_help_has_each_command_in_one_narrow_column(columns: int) -> None:
    with nobody() as port, terminal("help", port=port, size=(24, columns)) as screen:
        status, shown = ended(screen)
    *lines, how = shown.splitlines()
    assert status == 0
    assert max(map(len, lines)) <= columns
    assert [name for name in known() if sum(line.startswith(f"{name} ") for line in lines) != 1] == []
    # Not much more than one line for each, since the first ones must not be gone at once.
    assert len(lines) < {80: 1.4, 60: 1.9}[columns] * len(known())
    assert how == "help COMMAND shows what a command takes"


@pytest.mark.parametrize("words", [("help", "create"), ("help", "amend")])
def test_help_fits_a_narrow_terminal(words: tuple[str, ...]) -> None:
    with nobody() as port, terminal(*words, port=port, env={"COLUMNS": "80"}) as screen:
        status, shown = ended(screen)
    assert status == 0
    assert max(map(len, shown.split("\n"))) <= 80
    # An option and its value are on one line.
    assert [line for line in shown.split("\n") if line.rstrip().endswith(("[--opens", "[--closes", "[--id"))] == []
    assert " ".join(shown.split()).count(USAGES[words[-1]]) == 1


def test_help_shows_times_as_people_type_them() -> None:
    helped = ctl("help", "create", env={"TZ": "Europe/Berlin"}).stdout
    assert "when it begins; a day and time, such as 2027-07-11T20:00 (in CEST) or 2027-07-11T18:00:00Z\n" in helped
