"""Replies as text: tables for people, lines for pipes, JSON for programs, and nothing that steers a terminal."""

import re

import msgspec
import pytest

from tests.conftest import answer, booked, ctl, ended, lying, terminal
from tests.daemon import Daemon
from ticketd.protocol import StatsReply

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
    "bookings": answer("bookings", bookings=[msgspec.json.decode(booked(EVIL, event=EVIL))]),
    "tickets": answer("tickets", tickets=[{"id": EVIL, "event": EVIL, "booking": EVIL, "state": "valid"}]),
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
        rows = [row for name in ("events", "bookings", "tickets") for row in told.get(name, [])]
        assert EVIL in (told.get("id"), told.get("message"), *(row["id"] for row in rows if isinstance(row, dict)))
    else:
        assert ESCAPED in shown


@pytest.mark.parametrize("lie", LIES)
def test_control_characters_of_a_lying_server_do_not_reach_a_terminal(lie: str) -> None:
    with lying(LIES[lie]) as liar, terminal(*lie.split(), port=liar.port) as screen:
        _, shown = ended(screen)
    assert ESCAPED in shown
    assert not STEERING.search(shown)


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_control_characters_in_the_stats_of_a_lying_server_do_not_reach_a_pipe(option: list[str]) -> None:
    figures = dict.fromkeys(StatsReply.__struct_fields__, 1)
    with lying(answer("stats", **{**figures, "version": EVIL})) as liar:
        done = ctl("stats", *option, port=liar.port)
    assert len(done.stdout.splitlines()) == (1 if option else len(figures))
    assert not STEERING.search(done.stdout.replace("\t", ""))
    assert r"a\u001b[2J" in done.stdout


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


@pytest.mark.parametrize(("command", "what"), [("list", "events"), ("bookings", "bookings"), ("tickets", "tickets")])
def test_that_there_is_nothing_is_said_on_a_terminal_and_is_no_line_in_a_pipe(command: str, what: str) -> None:
    nothing = answer(what, **{what: []})
    with lying(nothing) as liar, terminal(command, port=liar.port) as screen:
        assert ended(screen) == (0, f"no {what}\n")
    with lying(nothing) as liar:
        assert ctl(command, port=liar.port).stdout == ""


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


def test_a_terminal_shows_the_life_of_a_hold_with_times_to_the_second(daemon: Daemon) -> None:
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"

    def shown(*words: str) -> str:
        with terminal(*words, port=daemon.port) as screen:
            status, text = ended(screen)
        assert status == 0
        return text

    held = shown("hold", "3", "2", "--booking", "life")
    assert re.fullmatch(rf"booking life: 2 tickets of event 3, held until {time}; 298 left after it\n", held)
    confirmed = shown("confirm", "life")
    first, second = re.findall(r"^  ticket (\S+)$", confirmed, re.MULTILINE)
    assert confirmed.startswith("booking life: 2 tickets of event 3, confirmed; 298 left after it\n")
    assert shown("cancel", "life", "--tickets", first).endswith(f"  ticket {first}, cancelled\n  ticket {second}\n")
    assert re.fullmatch(rf"ticket {second}: event 3, booking life, redeemed at {time}\n", shown("redeem", second))
    assert shown("show", "life").endswith(f"  ticket {first}, cancelled\n  ticket {second}, redeemed\n")


def test_a_terminal_shows_bookings_and_tickets_in_columns(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        held = connection.ask("hold 3 1 --booking columns")
        ticket = connection.ask("book 3 1")["tickets"][0]
    with terminal("bookings", port=daemon.port) as screen:
        head, *rows = ended(screen)[1].splitlines()
    assert head.split() == ["ID", "EVENT", "QUANTITY", "STATE", "EXPIRES"]
    until = held["expires"].partition(".")[0] + "Z"
    assert ["columns", "3", "1", "held", until] in map(str.split, rows)
    with terminal("tickets", port=daemon.port) as screen:
        head, *rows = ended(screen)[1].splitlines()
    assert re.split("  +", head) == ["ID", "EVENT", "BOOKING", "STATE", "REDEEMED AT"]
    assert any(row.startswith(f"{ticket}  3") and row.endswith("  valid") for row in rows)


def test_what_was_created_or_amended_before_is_said_to_be_as_before(daemon: Daemon) -> None:
    for words in (["create", "X", "2027-01-01T00:00:00Z", "4", "--id", "x"], ["amend", "x", "--capacity", "5"]):
        with daemon.connect() as connection:
            assert connection.ask(" ".join(words))["reply"] == "event"
        with terminal(*words, port=daemon.port) as screen:
            status, shown = ended(screen)
        assert (status, shown.splitlines()[-1]) == (0, "(as before)")


def test_a_refusal_on_a_terminal_is_status_1(daemon: Daemon) -> None:
    with terminal("book", "nope", "1", port=daemon.port) as screen:
        status, shown = ended(screen)
    assert (status, shown[:28]) == (1, "ticketctl: event_not_found: ")
