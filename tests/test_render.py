"""Replies as text: tables for people, lines for pipes, JSON for programs, and nothing that steers a terminal."""

import re

import msgspec
import pytest

from tests.conftest import answer, booked, ctl, ended, lying, terminal
from tests.daemon import Daemon

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

# What steers a terminal, forges a line or turns text around: ESC, CSI as one character, DEL, NUL, newlines, a tab, RLO.
EVIL = "a\x1b[2Jb\x9b2Jc\x7fd\x00e\nf\rg\th\u202ei\u2028j"
ESCAPED = r"a\u001b[2Jb\u009b2Jc\u007fd\u0000e\u000af\u000dg\u0009h\u202ei\u2028j"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]")

FACTS = {"date": "2027-03-11T20:00:00Z", "capacity": 9, "available": 5, "held": 0, "sold": 4, "version": 4}
LIES = {
    "list": answer("events", events=[{"id": EVIL, "name": EVIL, **FACTS}]),
    "show event": answer("event", id=EVIL, name=EVIL, **FACTS),
    "show booking": booked(EVIL, event=EVIL),
    "show ticket": answer("ticket", id=EVIL, event=EVIL, booking=EVIL, state="valid"),
    "ping": answer("error", code="internal", message=EVIL),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_control_characters_of_a_lying_server_do_not_reach_a_pipe(lie: str, option: list[str]) -> None:
    with lying(LIES[lie]) as liar:
        done = ctl(*lie.split(), *option, port=liar.port)
    shown = done.stdout + done.stderr
    assert shown.count("\n") == 1
    assert not STEERING.search(shown.replace("\t", ""))
    assert "\u001b" not in shown
    if option:
        told = msgspec.json.decode(done.stdout)
        assert EVIL in (told.get("id"), told.get("message"), *(event["id"] for event in told.get("events", [])))
    else:
        assert ESCAPED in shown


@pytest.mark.parametrize("lie", LIES)
def test_control_characters_of_a_lying_server_do_not_reach_a_terminal(lie: str) -> None:
    with lying(LIES[lie]) as liar, terminal(*lie.split(), port=liar.port) as screen:
        _, shown = ended(screen)
    assert ESCAPED in shown
    assert not STEERING.search(shown)


def test_a_terminal_shows_events_in_columns_that_stand_under_each_other(daemon: Daemon) -> None:
    names = ["Fête 東京 🎫", "Jazz"]
    events = [
        ctl("create", name, "2027-03-11T20:00:00Z", capacity, port=daemon.port).stdout.split("\t")[0]
        for name, capacity in zip(names, ["7", "1000000000"], strict=True)
    ]
    with terminal("list", port=daemon.port) as screen:
        status, shown = ended(screen)
    assert status == 0
    head, *rows = shown.splitlines()
    assert head.split() == ["ID", "NAME", "DATE", "AVAILABLE", "HELD", "SOLD", "CAPACITY"]
    for event, name, available in zip(events, names, ["7", "1000000000"], strict=True):
        row = next(row for row in rows if row.startswith(f"{event} "))
        assert name in row
        assert row.split()[-4:] == [available, "0", "0", available]
    # A wide character and an emoji take two columns of the terminal and are one character here.
    date = head.index("DATE")
    assert {row.index("2027-") for row in rows} == {date, date - 3}


def test_a_name_too_long_for_the_terminal_is_cut_there_and_whole_in_a_pipe() -> None:
    event = {"id": "1", "name": "x" * 200, **FACTS}
    with lying(answer("events", events=[event])) as liar, terminal("list", port=liar.port) as screen:
        _, shown = ended(screen)
    width = max(map(len, shown.splitlines()))
    assert width == 200
    assert "x… " in shown
    with lying(answer("events", events=[event])) as liar:
        assert "x" * 200 in ctl("list", port=liar.port).stdout


def test_no_events_are_said_on_a_terminal_and_are_no_lines_in_a_pipe() -> None:
    with lying(answer("events", events=[])) as liar, terminal("list", port=liar.port) as screen:
        assert ended(screen) == (0, "no events\n")
    with lying(answer("events", events=[])) as liar:
        assert ctl("list", port=liar.port).stdout == ""


def test_a_terminal_shows_a_booking_with_its_tickets_and_whether_it_was_there_before(daemon: Daemon) -> None:
    screens = []
    for _ in range(2):
        with terminal("book", "1", "2", "--booking", "mine", port=daemon.port) as screen:
            screens.append(ended(screen))
    (status, first), (status_again, again) = screens
    assert status == status_again == 0
    assert first.startswith("booking mine: 2 tickets of event 1, confirmed; 98 left")
    assert first.count("\n  ticket ") == 2
    assert again == first.replace("confirmed;", "confirmed, as before;")


def test_a_refusal_on_a_terminal_is_status_1(daemon: Daemon) -> None:
    with terminal("book", "nope", "1", port=daemon.port) as screen:
        status, shown = ended(screen)
    assert (status, shown[:28]) == (1, "ticketctl: event_not_found: ")
