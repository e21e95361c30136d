"""Replies as text: tables for people, lines for pipes, JSON for programs, and nothing that steers a terminal."""

import re
from datetime import UTC, datetime

import msgspec
import pytest

from tests.conftest import answer, booked, ctl, ended, lying, terminal
from tests.daemon import Daemon
from ticketctl.render import render
from ticketd.wire.codec import decode_reply
from ticketd.wire.replies import Reply, StatsReply

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
    "ping": answer("error", code="internal", message=EVIL),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_control_characters_in_replies_do_not_reach_a_pipe(lie: str, option: list[str]) -> None:
    with lying(LIES[lie]) as liar:
        done = ctl(*lie.split(), *option, port=liar.port)
    shown = done.stdout + done.stderr
    assert shown.count("\n") == 1
    assert not STEERING.search(shown.replace("\t", ""))
    assert "\u001b" not in shown
    if option:
        reply = msgspec.json.decode(done.stdout)
        rows = [row for name in ("events", "bookings") for row in reply.get(name, [])]
        assert EVIL in (reply.get("id"), reply.get("message"), *(row["id"] for row in rows if isinstance(row, dict)))
    else:
        assert ESCAPED in shown


@pytest.mark.parametrize("lie", LIES)
def test_control_characters_in_replies_do_not_reach_a_terminal(lie: str) -> None:
    with lying(LIES[lie]) as liar, terminal(*lie.split(), port=liar.port) as screen:
        _, shown = ended(screen)
    assert ESCAPED in shown
    assert not STEERING.search(shown)


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_control_characters_in_stats_do_not_reach_a_pipe(option: list[str]) -> None:
    figures = dict.fromkeys(StatsReply.__struct_fields__, 1)
    with lying(answer("stats", **{**figures, "version": EVIL, "ready": True})) as liar:
        done = ctl("stats", *option, port=liar.port)
    assert len(done.stdout.splitlines()) == (1 if option else len(figures))
    assert not STEERING.search(done.stdout.replace("\t", ""))
    assert r"a\u001b[2J" in done.stdout


def test_a_reply_without_a_layout_shows_names_and_values() -> None:
    class Stock(Reply, tag="stock-of-a-test"):
        left: int
        sold_out: bool
        seats: list[str]
        until: datetime | None = None

    stock = Stock(7, False, ["a\x1b", "b"], datetime(2027, 3, 11, 20, tzinfo=UTC))
    assert render(stock, "plain") == "left\t7\nsold_out\tfalse\nseats\ta\\u001b,b\nuntil\t2027-03-11T20:00:00Z"
    assert render(stock, "table").splitlines() == [
        "left      7",
        "sold_out  false",
        r"seats     a\u001b,b",
        "until     2027-03-11T20:00:00Z",
    ]
    assert render(Stock(7, True, []), "plain") == "left\t7\nsold_out\ttrue\nseats\t\nuntil\t"


def test_a_terminal_aligns_the_figures_of_stats(daemon: Daemon) -> None:
    with terminal("stats", port=daemon.port) as screen:
        status, shown = ended(screen)
    assert status == 0
    lines = shown.splitlines()
    assert [line.split()[0] for line in lines] == list(StatsReply.__struct_fields__)
    assert len({line.index(line.split()[1], len(line.split()[0])) for line in lines}) == 1


def test_a_terminal_shows_events_in_aligned_columns(daemon: Daemon) -> None:
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


def test_a_long_name_is_cut_on_a_terminal_and_whole_in_a_pipe() -> None:
    event = {"id": "1", "name": "x" * 200, **FACTS}
    with lying(answer("events", events=[event])) as liar, terminal("list", port=liar.port) as screen:
        _, shown = ended(screen)
    width = max(map(len, shown.splitlines()))
    assert width == 200
    assert "x… " in shown
    with lying(answer("events", events=[event])) as liar:
        assert "x" * 200 in ctl("list", port=liar.port).stdout


@pytest.mark.parametrize(("command", "what"), [("list", "events"), ("bookings", "bookings")])
def test_an_empty_list_says_so_on_a_terminal_but_not_in_a_pipe(command: str, what: str) -> None:
    nothing = answer(what, **{what: []})
    with lying(nothing) as liar, terminal(command, port=liar.port) as screen:
        assert ended(screen) == (0, f"no {what}\n")
    with lying(nothing) as liar:
        assert ctl(command, port=liar.port).stdout == ""


def test_a_terminal_shows_a_booking_and_marks_a_replayed_one(daemon: Daemon) -> None:
    screens = []
    for _ in range(2):
        with terminal("book", "1", "2", "--booking", "mine", port=daemon.port) as screen:
            screens.append(ended(screen))
    (status, first), (status_again, again) = screens
    assert status == status_again == 0
    assert first.startswith("booking mine: 2 tickets of event 1, confirmed; 98 left")
    assert first.count("\n  ticket ") == 2
    assert again == first.replace("confirmed;", "confirmed, as before;")


def test_a_terminal_shows_every_state_a_hold_goes_through(daemon: Daemon) -> None:
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
    redeemed = shown("redeem", second)
    assert re.fullmatch(rf"ticket {second}: event 3, booking life, redeemed at {time}\n", redeemed)
    at = redeemed.split()[-1]
    assert shown("show", "life").endswith(f"  ticket {first}, cancelled\n  ticket {second}, redeemed at {at}\n")


def test_a_ticket_redeemed_at_no_known_time_is_redeemed() -> None:
    reply = answer(
        "booking",
        id="b",
        event="1",
        quantity=1,
        state="confirmed",
        tickets=["t"],
        available=9,
        version=1,
        redeemed=["t"],
    )
    assert render(decode_reply(reply), "table").endswith("\n  ticket t, redeemed")


def test_a_terminal_shows_bookings_in_columns(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        held = connection.ask("hold 3 1 --booking columns")
    with terminal("bookings", port=daemon.port) as screen:
        head, *rows = ended(screen)[1].splitlines()
    assert head.split() == ["ID", "EVENT", "QUANTITY", "STATE", "EXPIRES"]
    until = held["expires"].partition(".")[0] + "Z"
    assert ["columns", "3", "1", "held", until] in map(str.split, rows)


def test_a_terminal_says_that_there_are_more_bookings(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.ask("book 3 1 --booking 0-first")
        connection.ask("book 3 1 --booking 0-second")
    with terminal("bookings", "--limit", "1", port=daemon.port) as screen:
        assert ended(screen)[1].endswith("\n(more after 0-first)\n")
    assert ctl("bookings", "--limit", "1", port=daemon.port).stdout.count("\n") == 1


def test_a_repeated_create_or_amend_is_marked_as_before(daemon: Daemon) -> None:
    for words in (["create", "X", "2027-01-01T00:00:00Z", "4", "--id", "x"], ["amend", "x", "--capacity", "5"]):
        with daemon.connect() as connection:
            assert connection.ask(" ".join(words))["reply"] == "event"
        with terminal(*words, port=daemon.port) as screen:
            status, shown = ended(screen)
        assert (status, shown.splitlines()[-1]) == (0, "(as before)")


def test_a_refusal_on_a_terminal_exits_with_status_1(daemon: Daemon) -> None:
    with terminal("book", "nope", "1", port=daemon.port) as screen:
        status, shown = ended(screen)
    assert (status, shown[:28]) == (1, "ticketctl: event_not_found: ")
