"""ticketctl door: a verdict for each scan, whatever happens to the daemon meanwhile."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from tests.conftest import (
    SECONDS_MAX,
    answer,
    command_line,
    ctl,
    environment,
    lying,
    nobody,
)
from tests.daemon import Daemon

# A zone without summer time, and not that of the daemon.
TZ = {"TZ": "Asia/Kolkata"}
USED = r"USED (\d\d:\d\d)"
EVENT = answer(
    "event", id="1", name="E", date="2027-03-11T20:00:00Z", capacity=7, available=7, held=0, sold=0, version=1
)


def ask(daemon: Daemon, line: str) -> dict[str, Any]:
    with daemon.connect() as connection:
        return connection.ask(line)


def tickets_of(daemon: Daemon, event: str, quantity: int, booking: str) -> list[str]:
    """Book, and return the tickets."""
    tickets: list[str] = ask(daemon, f"book {event} {quantity} --booking {booking}")["tickets"]
    return tickets


def verdicts(daemon: Daemon, event: str, *scans: str) -> list[list[str]]:
    """Scan all, and return the columns of each verdict."""
    done = ctl("door", event, port=daemon.port, stdin="".join(f"{scan}\n" for scan in scans), env=TZ)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split("\t") for line in done.stdout.splitlines()]


def state(daemon: Daemon, ticket: str) -> str:
    found: str = ask(daemon, f"show {ticket}")["state"]
    return found


@contextmanager
def door(*words: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """Open a door in a pipe."""
    process = subprocess.Popen(
        command_line(words, port),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def scan(process: subprocess.Popen[str], scanned: str) -> None:
    assert process.stdin
    process.stdin.write(f"{scanned}\n")
    process.stdin.flush()


def verdict(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the next verdict in JSON, waiting for it."""
    assert process.stdout
    line: dict[str, Any] = msgspec.json.decode(process.stdout.readline())
    return line


def notice(process: subprocess.Popen[str]) -> str:
    """Return the next line of stderr, waiting for it."""
    assert process.stderr
    return process.stderr.readline()


def at_end_of_input(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=SECONDS_MAX)
    return process.returncode, out, err


def test_a_valid_ticket_is_let_in_once(daemon: Daemon) -> None:
    [ticket] = tickets_of(daemon, "1", 1, "valid")
    first, second = verdicts(daemon, "1", ticket, ticket)
    assert first == ["OK", ticket, "1"]
    assert re.fullmatch(USED, second[0])
    assert second[1:] == [ticket, "1"]


def test_used_says_when_by_the_clock_at_the_door(daemon: Daemon) -> None:
    [ticket] = tickets_of(daemon, "1", 1, "clock")
    at = ask(daemon, f"redeem {ticket}")["redeemed_at"]
    minutes = int(at[11:13]) * 60 + int(at[14:16]) + 5 * 60 + 30
    [[used, *_]] = verdicts(daemon, "1", ticket)
    assert used.endswith(f"{minutes // 60 % 24:02}:{minutes % 60:02}")


def test_used_on_another_day_says_on_which() -> None:
    used = answer("error", code="already_redeemed", message="used", redeemed_at="2026-03-11T20:00:00Z")
    with lying(EVENT, used) as liar:
        done = ctl("door", "1", port=liar.port, stdin="t\n", env=TZ)
    assert done.stdout == "USED 2026-03-12 01:30\tt\t0\n"


def test_used_is_in_the_zone_that_an_option_names() -> None:
    used = answer("error", code="already_redeemed", message="used", redeemed_at="2026-03-11T20:00:00Z")
    with lying(EVENT, used) as liar:
        done = ctl("--timezone", "America/New_York", "door", "1", port=liar.port, stdin="t\n", env=TZ)
    assert done.stdout == "USED 2026-03-11 16:00\tt\t0\n"


def test_a_booking_lets_in_all_its_valid_tickets(daemon: Daemon) -> None:
    tickets_of(daemon, "1", 3, "whole")
    first, second = verdicts(daemon, "1", "whole", "whole")
    assert first == ["OK 3 TICKETS", "whole", "3"]
    assert re.fullmatch(USED, second[0])


def test_a_booking_lets_in_only_those_who_are_not_in_yet(daemon: Daemon) -> None:
    first, second, third, _ = tickets_of(daemon, "1", 4, "rest")
    ask(daemon, f"cancel rest --tickets {first}")
    ask(daemon, f"redeem {second}")
    assert verdicts(daemon, "1", third, "rest") == [["OK", third, "1"], ["OK 1 TICKET", "rest", "2"]]


def test_a_ticket_of_another_event_stays_valid(daemon: Daemon) -> None:
    [ticket] = tickets_of(daemon, "2", 1, "other")
    assert verdicts(daemon, "1", ticket, "other") == [["WRONG EVENT", ticket, "0"], ["WRONG EVENT", "other", "0"]]
    assert state(daemon, ticket) == "valid"


def test_a_cancelled_ticket_is_turned_away(daemon: Daemon) -> None:
    [ticket] = tickets_of(daemon, "1", 1, "cancelled")
    ask(daemon, "cancel cancelled")
    assert verdicts(daemon, "1", ticket, "cancelled") == [["CANCELLED", ticket, "0"], ["CANCELLED", "cancelled", "0"]]


def test_a_reissued_ticket_is_replaced_by_the_new_one(daemon: Daemon) -> None:
    [ticket] = tickets_of(daemon, "1", 1, "reissued")
    new = ask(daemon, f"reissue {ticket}")["id"]
    assert verdicts(daemon, "1", ticket, new) == [["REPLACED", ticket, "0"], ["OK", new, "1"]]


@pytest.mark.parametrize("scanned", ["nothing.000000000000", "nothing", "two words", "é", "x" * 78, "{}", "-q"])
def test_what_is_no_ticket_is_unknown(daemon: Daemon, scanned: str) -> None:
    assert verdicts(daemon, "1", scanned) == [["UNKNOWN", scanned, "0"]]


def test_bytes_that_are_no_text_are_unknown(daemon: Daemon) -> None:
    done = ctl("door", "1", port=daemon.port, stdin=b"\xff\x1b[2J\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "UNKNOWN\t\\udcff\\u001b[2J\t0\n"
    done = ctl("--json", "door", "1", port=daemon.port, stdin=b"\xff\n")
    assert msgspec.json.decode(done.stdout)["id"] == "\\udcff"


@pytest.mark.parametrize("end", ["", "release unpaid"])
def test_a_booking_that_nobody_paid_for_is_not_sold(daemon: Daemon, end: str) -> None:
    ask(daemon, "hold 1 1 --booking unpaid")
    if end:
        ask(daemon, end)
    assert verdicts(daemon, "1", "unpaid") == [["NOT SOLD", "unpaid", "0"]]


def test_an_annulled_ticket_is_let_in_again(daemon: Daemon) -> None:
    [ticket] = tickets_of(daemon, "1", 1, "annulled")
    ask(daemon, f"redeem {ticket}")
    ask(daemon, f"annul {ticket}")
    assert verdicts(daemon, "1", ticket) == [["OK", ticket, "1"]]


def test_blank_lines_and_line_ends_of_scanners_are_ignored(daemon: Daemon) -> None:
    [ticket] = tickets_of(daemon, "1", 1, "blank")
    done = ctl("door", "1", port=daemon.port, stdin=f"\n \r\n\t{ticket}\r\n\n")
    assert (done.returncode, done.stdout) == (0, f"OK\t{ticket}\t1\n")


def test_a_last_line_without_its_end_counts(daemon: Daemon) -> None:
    [ticket] = tickets_of(daemon, "1", 1, "last")
    assert ctl("door", "1", port=daemon.port, stdin=ticket).stdout == f"OK\t{ticket}\t1\n"


def test_a_door_without_scans_ends_with_status_0(daemon: Daemon) -> None:
    done = ctl("door", "1", port=daemon.port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_door_of_no_event_does_not_open(daemon: Daemon) -> None:
    [ticket] = tickets_of(daemon, "1", 1, "closed")
    done = ctl("door", "nope", port=daemon.port, stdin=f"{ticket}\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "ticketctl: event_not_found: there is no event nope; list shows the events\n"
    assert state(daemon, ticket) == "valid"


def test_a_door_without_a_daemon_does_not_open() -> None:
    with nobody() as port:
        done = ctl("door", "1", port=port, stdin="t\n")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"ticketctl: cannot reach 127.0.0.1:{port} (connection refused). Is ticketd running?\n"


@pytest.mark.parametrize("words", [[], ["1", "2"], ["two words"], ["1", "--fast"]])
def test_wrong_usage_of_door_exits_with_status_2(words: list[str]) -> None:
    with nobody() as port:
        done = ctl("door", *words, port=port)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: door EVENT" in done.stderr


def test_a_script_cannot_open_a_door(daemon: Daemon) -> None:
    done = ctl(port=daemon.port, stdin="door 1\nping\n")
    assert (done.returncode, done.stdout) == (2, "pong\n")
    assert "standard input" in done.stderr


def test_json_has_one_object_for_each_scan(daemon: Daemon) -> None:
    one, *two = tickets_of(daemon, "1", 3, "json")
    with door("--json", "door", "1", port=daemon.port) as process:
        scan(process, one)
        first = verdict(process)
        scan(process, "json")
        second = verdict(process)
        scan(process, one)
        third = verdict(process)
        scan(process, "two words")
        fourth = verdict(process)
        assert at_end_of_input(process) == (0, "", "")
    ids = [reply.pop("scan") for reply in (first, second, third)]
    assert len(set(ids)) == 3
    assert first == {"reply": "scan", "id": one, "verdict": "OK", "let_in": 1, "tickets": [one]}
    assert second == {"reply": "scan", "id": "json", "verdict": "OK", "let_in": 3, "tickets": two}
    at = third.pop("redeemed_at")
    assert at == ask(daemon, f"show {one}")["redeemed_at"]
    assert third.pop("message") == f"ticket {one} was redeemed at {at}"
    assert third == {"reply": "scan", "id": one, "verdict": "USED", "let_in": 3, "code": "already_redeemed"}
    assert (fourth["verdict"], fourth["code"]) == ("UNKNOWN", "ticket_not_found")


def test_quiet_shows_only_who_is_turned_away(daemon: Daemon) -> None:
    [ticket] = tickets_of(daemon, "1", 1, "quiet")
    done = ctl("-q", "door", "1", port=daemon.port, stdin=f"{ticket}\nnobody\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "UNKNOWN\tnobody\t1\n", "")


def test_ctrl_c_ends_the_door_with_status_130(daemon: Daemon) -> None:
    [ticket] = tickets_of(daemon, "1", 1, "interrupted")
    with door("--json", "door", "1", port=daemon.port) as process:
        scan(process, ticket)
        verdict(process)
        process.send_signal(signal.SIGINT)
        assert at_end_of_input(process) == (130, "", "")


def test_a_door_whose_verdicts_nobody_reads_ends(daemon: Daemon) -> None:
    one, two, three = tickets_of(daemon, "1", 3, "unread")
    with door("--json", "door", "1", port=daemon.port) as process:
        scan(process, one)
        verdict(process)
        assert process.stdout
        process.stdout.close()
        scan(process, two)
        assert process.wait(SECONDS_MAX) == 0
    assert state(daemon, three) == "valid"
