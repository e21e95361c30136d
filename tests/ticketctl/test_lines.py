"""Scripts: what a line may be, and where a script stops when the daemon is gone."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.conftest import SECONDS_MAX, answer, ctl, environment, lying, nobody
from tests.daemon import Daemon, running, write_events
from ticketctl.lines import without_comment


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("book 1 2 # for Anna", "book 1 2 "),
        ("# book 1 2", ""),
        ("  # book", "  "),
        ("book 1 2", "book 1 2"),
        ("book gig#1 2", "book gig#1 2"),
        ("create 'Rock #1' x # y", "create 'Rock #1' x "),
        ('create "Rock #1" x#y', 'create "Rock #1" x#y'),
        (r"create Rock\ #1 x", r"create Rock\ #1 x"),
        (r'create "a\" # b" x', r'create "a\" # b" x'),
        ("create 'Rock # 1", "create 'Rock # 1"),
        ('{"cmd":"ping"} # hello', '{"cmd":"ping"} '),
        ('{"cmd":"create","name":"it\'s #1"}', '{"cmd":"create","name":"it\'s #1"}'),
        ("", ""),
    ],
)
def test_a_comment_begins_where_a_word_would(line: str, kept: str) -> None:
    assert without_comment(line) == kept


def test_a_comment_is_found_in_a_very_long_line() -> None:
    line = "book " + "'" * 100_001
    assert without_comment(line + " # x") == line + " # x"
    assert without_comment("x" * 100_000 + " # x") == "x" * 100_000 + " "


def test_a_script_takes_json_words_comments_and_a_byte_order_mark(daemon: Daemon) -> None:
    script = (
        "\ufeffbook 1 2 --booking words # for Anna\n"
        '{"cmd":"book","event":"1","quantity":1,"booking":"json"} # for Ben\n'
        '  {"cmd":"show","id":"json"}\n'
        '{"cmd":"help","command":"ping"}\n'
    )
    done = ctl(port=daemon.port, stdin=script)
    assert (done.returncode, done.stderr) == (0, "")
    words, json, shown, *helped = done.stdout.splitlines()
    assert [line.split("\t")[0] for line in (words, json, shown)] == ["words", "json", "json"]
    assert helped[0] == "ping"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"cmd":"book","event":1,"quantity":1}', "bad_request: event must be a string, in quotes, not 1"),
        (b'{"cmd":"frob"}', 'unknown_command: there is no command "frob"'),
        (b'{"cmd":"ping"', "bad_frame: this line is not JSON"),
        (b'{"cmd":"create","name":"\xff"}', "bad_frame: this line is not JSON: it is not UTF-8"),
        (b'{"cmd":"auth","token":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}', "bad_request: a token is not typed"),
    ],
)
def test_a_json_line_that_is_wrong_is_refused_in_words(line: bytes, said: str) -> None:
    with nobody() as port:
        done = ctl(port=port, stdin=b"# one\n" + line)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ticketctl: line 2: {said}")
    assert "Traceback" not in done.stderr
    assert "aaaaaa" not in done.stderr


def test_a_script_stops_where_the_daemon_is_gone_and_says_where_to_resume(daemon: Daemon) -> None:
    with nobody() as port:
        done = ctl("--timeout", "0.1", port=port, stdin="# buy\nbook 1 1\nbook 1 1\n")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"ticketctl: line 2: cannot reach 127.0.0.1:{port} (connection refused). Is ticketd running?\n"
        "ticketctl: the script ends here, since the daemon is gone; resume with line 2, as in:"
        " tail -n +2 FILE | ticketctl\n"
    )
    # As it says.
    left = ctl("show", "1", port=daemon.port).stdout.split("\t")[4]
    resumed = subprocess.run(
        [
            "sh",
            "-c",
            f'printf "# buy\nbook 1 1\nbook 1 1\n" | tail -n +2 | {sys.executable} -m ticketctl -p {daemon.port}',
        ],
        capture_output=True,
        env=environment(),
        timeout=SECONDS_MAX,
        check=True,
    )
    assert resumed.stdout.count(b"confirmed") == 2
    assert int(ctl("show", "1", port=daemon.port).stdout.split("\t")[4]) == int(left) - 2


def test_a_script_goes_on_once_the_daemon_is_back(tmp_path: Path) -> None:
    write_events(tmp_path, 10)
    with running(tmp_path) as daemon:
        port = daemon.port
        script = subprocess.Popen(
            [sys.executable, "-m", "ticketctl", "--port", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert script.stdin
        assert script.stdout
        script.stdin.write("book 1 1\n")
        script.stdin.flush()
        assert "confirmed\t9" in script.stdout.readline()
        daemon.kill()
    script.stdin.write("book 1 1\n")
    script.stdin.close()
    with running(tmp_path, "--port", str(port)):
        assert "confirmed\t8" in script.stdout.readline()
        assert (script.wait(SECONDS_MAX), script.stdout.read()) == (0, "")
    script.stdout.close()
    assert script.stderr
    with script.stderr:
        assert script.stderr.read() == ""


def test_a_script_asks_a_daemon_again_that_was_ending() -> None:
    ending = answer("error", code="shutting_down", message="the daemon is ending")
    with lying(ending, answer("pong")) as liar:
        done = ctl("--json", port=liar.port, stdin="ping\n")
    assert (done.returncode, msgspec.json.decode(done.stdout)) == (0, {"reply": "pong"})
