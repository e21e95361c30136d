"""ticketctl for one command, and for a script of commands on standard input."""

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.conftest import SECONDS_MAX, command_line, ctl, environment, nobody
from tests.daemon import Daemon
from ticketctl.commands import OWN
from ticketd.protocol import COMMANDS

USAGES = {command.name: command.usage for command in COMMANDS.values()} | {
    name: command.usage for name, command in OWN.items()
}


def available(daemon: Daemon, event: str) -> int:
    with daemon.connect() as connection:
        left: int = connection.ask(f"show {event}")["available"]
        return left


def test_the_list_is_a_line_of_tab_separated_fields_for_each_event(daemon: Daemon) -> None:
    done = ctl("list", "--after", "1", port=daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "2\tEvent 2\t2027-03-02T20:00:00Z\t200\t200\t0\t0\t0\n"
        "3\tEvent 3\t2027-03-03T20:00:00Z\t300\t300\t0\t0\t0\n"
    )  # fmt: skip


def test_a_booking_is_one_line_and_show_finds_it_and_its_tickets(daemon: Daemon) -> None:
    done = ctl("book", "1", "2", port=daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    booking, event, quantity, state, _, _, tickets, *rest = done.stdout.rstrip("\n").split("\t")
    assert (event, quantity, state, tickets.count(","), rest) == ("1", "2", "confirmed", 1, [""] * 3)
    assert ctl("show", booking, port=daemon.port).stdout == done.stdout
    for ticket in tickets.split(","):
        assert ctl("show", ticket, port=daemon.port).stdout == f"{ticket}\t1\t{booking}\tvalid\n"


def test_a_booking_has_the_same_columns_alone_and_among_others_with_what_became_of_its_tickets(daemon: Daemon) -> None:
    held = ctl("hold", "1", "3", "--booking", "0", "--seconds", "60", port=daemon.port).stdout.split("\t")
    assert held[3] == "held"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", held[7])
    first, second, _ = ctl("confirm", "0", port=daemon.port).stdout.split("\t")[6].split(",")
    assert ctl("redeem", first, port=daemon.port).stdout.startswith(f"{first}\t1\t0\tredeemed\t2")
    cancelled = ctl("cancel", "0", "--tickets", second, port=daemon.port).stdout
    assert cancelled.rstrip("\n").split("\t")[7:] == ["", second, ""]
    assert ctl("show", "0", port=daemon.port).stdout.rstrip("\n").split("\t")[7:] == ["", second, first]
    assert ctl("bookings", "--limit", "1", port=daemon.port).stdout == cancelled


def test_the_same_transition_twice_is_replayed_and_one_that_crosses_another_is_refused(daemon: Daemon) -> None:
    ctl("hold", "1", "1", "--booking", "back", port=daemon.port)
    released = ctl("release", "back", port=daemon.port)
    again = ctl("release", "back", port=daemon.port)
    crossed = ctl("confirm", "back", port=daemon.port)
    assert (released.returncode, again.returncode) == (0, 0)
    assert again.stdout == released.stdout.replace("\n", "\treplayed\n")
    assert (crossed.returncode, crossed.stdout) == (1, "")
    assert crossed.stderr.startswith("ticketctl: already_released: ")


def test_a_ticket_that_was_redeemed_elsewhere_is_redeemed_at_that_time_and_told_twice_it_is_replayed(
    daemon: Daemon,
) -> None:
    ticket = ctl("book", "1", "1", "--booking", "scanned", port=daemon.port).stdout.split("\t")[6].strip()
    redeem = ("redeem", ticket, "--at", "2026-11-22T21:15:00.5+01:00")
    told = f"{ticket}\t1\tscanned\tredeemed\t2026-11-22T20:15:00.500000Z"
    assert ctl(*redeem, port=daemon.port).stdout == f"{told}\n"
    assert ctl(*redeem, port=daemon.port).stdout == f"{told}\treplayed\n"
    refused = ctl("redeem", ticket, port=daemon.port)
    assert (refused.returncode, refused.stderr[:27]) == (1, "ticketctl: already_redeemed")


def test_stats_and_ping_answer(daemon: Daemon) -> None:
    assert ctl("ping", port=daemon.port).stdout == "pong\n"
    stats = dict(line.split("\t") for line in ctl("stats", port=daemon.port).stdout.splitlines())
    assert int(stats["events"]) >= 3


def test_names_come_through_byte_for_byte(daemon: Daemon) -> None:
    name = "Fête à Zürich – 東京 🎟️ \U0001f468‍\U0001f469‍\U0001f467"
    created = ctl("create", name, "2027-03-11T20:00:00Z", "5", port=daemon.port)
    assert created.returncode == 0
    event = created.stdout.split("\t")[0]
    assert ctl("show", event, port=daemon.port).stdout.split("\t")[1] == name
    assert msgspec.json.decode(ctl("show", event, "--json", port=daemon.port).stdout)["name"] == name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["book", "nope", "1"], "event_not_found: "),
        (["show", "nope"], "not_found: "),
        (["book", "2", "999"], "sold_out: event 2 has 200 left"),
    ],
)
def test_a_refusal_is_status_1_with_its_code_on_stderr(daemon: Daemon, words: list[str], said: str) -> None:
    done = ctl(*words, port=daemon.port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ticketctl: {said}")


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
        (["list", "--timeout", "nan"], "--timeout"),
        (["help", "frob"], '"frob"'),
    ],
)
def test_wrong_usage_is_status_2_and_what_was_wrong_is_named_without_asking(words: list[str], said: str) -> None:
    with nobody() as port:
        done = ctl(*words, env={"TICKETD_PORT": str(port)})
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_json_is_one_object_a_line_failures_included(daemon: Daemon) -> None:
    script = "ping\nfrob\nbook nope 1\nbook 1 1\nlist"
    done = ctl("--json", port=daemon.port, stdin=script)
    assert (done.returncode, done.stderr) == (2, "")
    told = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    assert [each["reply"] for each in told] == ["pong", "error", "error", "booking", "events"]
    assert [each["code"] for each in told[1:3]] == ["unknown_command", "event_not_found"]
    with nobody() as port:
        failed = ctl("--json", "ping", port=port)
    assert (failed.returncode, failed.stderr) == (3, "")
    assert msgspec.json.decode(failed.stdout)["code"] == "cannot_connect"


def test_quiet_shows_failures_only(daemon: Daemon) -> None:
    assert ctl("-q", "book", "3", "1", port=daemon.port).stdout == ""
    assert available(daemon, "3") == 299
    failed = ctl("book", "nope", "1", "--quiet", port=daemon.port)
    assert (failed.stdout, failed.stderr.count("\n")) == ("", 1)


def test_options_stand_before_or_after_the_command_alike(daemon: Daemon) -> None:
    where = ["--host", "127.0.0.1", f"--port={daemon.port}", "--json", "--timeout", "20"]
    before, after = ctl(*where, "list"), ctl("list", *where)
    assert (before.returncode, before.stdout) == (0, after.stdout)
    assert before.stdout.startswith('{"reply":"events"')


def test_the_environment_says_where_the_daemon_is_and_options_win(daemon: Daemon) -> None:
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


def test_a_reader_that_has_seen_enough_gets_no_traceback(daemon: Daemon) -> None:
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


def test_listing_starts_fast_because_it_loads_neither_rich_nor_the_shell_nor_asyncio(daemon: Daemon) -> None:
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
    assert not {"rich", "prompt_toolkit", "asyncio"} & {module.partition(".")[0] for module in modules}


def test_every_command_explains_itself_without_a_daemon() -> None:
    everything = ctl("--help")
    assert everything.returncode == 0
    for name, usage in USAGES.items():
        assert usage in everything.stdout
        with nobody() as port:
            done = ctl(name, "--help", port=port)
            asked = ctl("help", name, port=port)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{usage}\n  ")
        assert asked.stdout == done.stdout
    assert re.search(r"^  quantity +how many tickets; a whole number from 1 to 1000$", ctl("help", "book").stdout, re.M)


def test_a_script_passes_over_comments_and_blank_lines_and_names_the_line_of_an_error(daemon: Daemon) -> None:
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


def test_the_status_of_a_script_is_that_of_its_first_failure(daemon: Daemon) -> None:
    assert ctl(port=daemon.port, stdin="ping\nbook nope 1\nfrob\nping\n").returncode == 1
    assert ctl(port=daemon.port, stdin="frob\nbook nope 1\n").returncode == 2
    assert ctl(port=daemon.port, stdin="ping\n").returncode == 0
    assert ctl(port=daemon.port, stdin="").returncode == 0


def test_bail_ends_a_script_at_its_first_failure(daemon: Daemon) -> None:
    done = ctl("--bail", port=daemon.port, stdin="ping\nbook nope 1\nfrob\nping\n")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "pong\n", 1)


def test_exit_ends_a_script(daemon: Daemon) -> None:
    done = ctl(port=daemon.port, stdin="ping\nexit\nfrob\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "pong\n", "")


def test_a_line_that_is_not_utf_8_is_refused_and_the_script_goes_on(daemon: Daemon) -> None:
    left = available(daemon, "1")
    bad_name = b'create "\xff\xfe" 2027-03-11T20:00:00Z 5\n'
    done = ctl(port=daemon.port, stdin=b"book\xff 1 1\n" + bad_name + b"p\xc3ing\nping\n")
    assert (done.returncode, done.stdout) == (2, "pong\n")
    assert re.findall(r"line (\d)", done.stderr) == ["1", "2", "3"]
    assert available(daemon, "1") == left
