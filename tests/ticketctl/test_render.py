"""Replies as text: tables for people, lines for pipes, JSON for programs, and nothing that steers a terminal."""

import re
from datetime import UTC, datetime

import msgspec
import pytest

from tests.conftest import answer, booked, ctl, ended, lying, terminal
from tests.daemon import Daemon, until
from ticketctl.render import render
from ticketctl.times import Zone
from ticketd.wire.codec import decode_reply
from ticketd.wire.replies import Reply, StatsReply

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

# What steers a terminal, forges a line or turns text around: ESC, CSI as one character, DEL, NUL, newlines, a tab, RLO.
EVIL = "a\x1b[2Jb\x9b2Jc\x7fd\x00e\nf\rg\th\u202ei\u2028j"
ESCAPED = r"a\u001b[2Jb\u009b2Jc\u007fd\u0000e\u000af\u000dg\u0009h\u202ei\u2028j"
# A time to the second, as a terminal shows it.
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
BERLIN = Zone("Europe/Berlin")
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]")

FACTS = {"date": "2027-03-11T20:00:00Z", "capacity": 9, "available": 5, "held": 0, "sold": 4, "version": 4}
LIES = {
    "list": answer("events", events=[{"id": EVIL, "name": EVIL, **FACTS}]),
    "show event": answer("event", id=EVIL, name=EVIL, **FACTS),
    "show booking": booked(EVIL, event=EVIL),
    "show ticket": answer(
        "ticket",
        id=EVIL,
        event=EVIL,
        booking=EVIL,
        state="valid",
        history=[{"what": "annul", "at": "2027-03-11T20:00:00Z", "reason": EVIL}],
    ),
    "show of": booked(EVIL, buyer=EVIL),
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
    busiest = [{"id": EVIL, "refused": {EVIL: 1}}]
    with lying(
        answer("stats", **{**figures, "version": EVIL, "ready": True, "busiest": busiest, "slowest": []})
    ) as liar:
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
    assert render(stock, "table", BERLIN).splitlines() == [
        "left      7",
        "sold_out  false",
        r"seats     a\u001b,b",
        "until     2027-03-11 21:00 CET",
    ]
    assert render(Stock(7, True, []), "plain") == "left\t7\nsold_out\ttrue\nseats\t\nuntil\t"


def test_a_terminal_aligns_the_figures_of_stats(daemon: Daemon) -> None:
    with terminal("stats", port=daemon.port) as screen:
        status, shown = ended(screen)
    assert status == 0
    lines = shown.partition("\n\n")[0].splitlines()
    figures = [name for name in StatsReply.__struct_fields__ if name not in ("busiest", "slowest")]
    assert [line.split()[0] for line in lines] == figures
    assert len({line.index(line.split()[1], len(line.split()[0])) for line in lines}) == 1


def test_a_terminal_shows_the_busiest_events_of_stats(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.ask("create Busy 2027-03-11T20:00:00Z 5 --id busy")
        connection.ask("book busy 3")
        connection.ask("hold busy 2 --seconds 60")
        for words in ("book busy 9", "book busy 8", "confirm nobody", "amend busy --paused", "book busy 1"):
            connection.ask(words)
        connection.ask("amend busy --no-paused")
        counted = {"id": "busy", "sold": 3, "held": 2, "refused": {"sold_out": 2, "not_on_sale": 1}}
        # The order of the busiest is decided once a second.
        until(lambda: counted in connection.ask("stats").get("busiest", []))
    with terminal("stats", port=daemon.port) as screen:
        _, shown = ended(screen)
    head, *rows = shown.partition("the busiest events since the daemon started:\n")[2].splitlines()
    assert head.split() == ["ID", "SOLD", "HELD", "EXPIRED", "REFUSED"]
    assert "busy  3  2  0  2 sold_out, 1 not_on_sale" in (re.sub("  +", "  ", row) for row in rows)
    plain = dict(line.split("\t") for line in ctl("stats", port=daemon.port).stdout.splitlines())
    assert counted in msgspec.json.decode(plain["busiest"])


def test_a_terminal_shows_the_slowest_commits_of_stats(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        connection.ask("create Slow 2027-03-11T20:00:00Z 5 --id slow")
        slowest = connection.ask("stats")["slowest"]
    with terminal("stats", port=daemon.port) as screen:
        _, shown = ended(screen)
    head, *rows = shown.partition("the slowest commits of the last hour:\n")[2].splitlines()
    assert head.split() == ["AT", "SECONDS", "SYNC_SECONDS", "REQUESTS", "QUEUES"]
    # The slowest comes first, in the zone of the terminal.
    assert rows[0].split()[2:] == ["UTC", *(str(slowest[0][name]) for name in list(slowest[0])[1:])]
    assert max(map(len, rows)) <= 80


def test_a_terminal_shows_how_an_event_is_sold_only_if_that_was_decided(daemon: Daemon) -> None:
    def shown(*words: str) -> list[str]:
        with terminal(*words, port=daemon.port) as screen:
            status, text = ended(screen)
        assert status == 0
        return text.splitlines()

    head, _ = shown("show", "2")
    assert head.split() == ["ID", "NAME", "DATE", "AVAILABLE", "HELD", "SOLD", "CAPACITY"]
    sale = ["--opens", "2027-02-01T09:00:00Z", "--closes", "2027-03-11T19:30:15Z", "--paused", "--per-buyer", "4"]
    head, row = shown("create", "Sale", "2027-03-11T20:00:00Z", "5", "--id", "sale", *sale)
    assert head.split()[7:] == ["OPENS", "CLOSES", "PAUSED", "PER_BUYER"]
    assert re.split("  +", row)[-4:] == ["2027-02-01 09:00 UTC", "2027-03-11 19:30:15 UTC", "paused", "4"]
    fields = "2027-02-01T09:00:00Z\t2027-03-11T19:30:15Z\ttrue\t4\t0\n"
    assert ctl("show", "sale", port=daemon.port).stdout.endswith(f"\t5\t5\t0\t0\t0\t{fields}")
    assert shown("delete", "sale") == ["event sale is deleted"]


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
    assert re.search(rf"\n  made at {TIME}\n$", first)
    assert first.count("\n  ticket ") == 2
    assert again == first.replace("confirmed;", "confirmed, as before;")


def test_a_terminal_shows_every_state_a_hold_goes_through(daemon: Daemon) -> None:
    def shown(*words: str) -> str:
        with terminal(*words, port=daemon.port) as screen:
            status, text = ended(screen)
        assert status == 0
        return text

    head = "booking life: 2 tickets of event 3 for Anna B."
    held = shown("hold", "3", "2", "--booking", "life", "--buyer", "Anna B.", "--seconds", "60")
    made = rf"  made at {TIME}\n"
    assert re.fullmatch(rf"{head}, held until {TIME}; 298 left after it\n{made}", held)
    assert re.fullmatch(rf"{head}, held until {TIME}; 298 left after it\n{made}", shown("extend", "life", "600"))
    confirmed = shown("confirm", "life")
    first, second = re.findall(r"^  ticket (\S+)$", confirmed, re.MULTILINE)
    assert confirmed.startswith(f"{head}, confirmed; 298 left after it\n")
    assert f"  ticket {first}, cancelled\n  ticket {second}\n" in shown("cancel", "life", "--tickets", first)
    redeemed = shown("redeem", second)
    assert re.fullmatch(rf"ticket {second}: event 3, booking life, redeemed at {TIME}\n", redeemed)
    at = redeemed.rstrip("\n").partition(" at ")[2]
    tickets = f"  ticket {first}, cancelled\n  ticket {second}, redeemed at {at}\n"
    changes = rf"  extended at {TIME}, until {TIME}\n  confirmed at {TIME}\n  cancelled at {TIME}: {re.escape(first)}\n"
    assert re.fullmatch(rf"{head}, .*\n{re.escape(tickets)}{made}{changes}", shown("show", "life"))


def test_a_terminal_tells_what_happened_to_a_ticket_at_the_door(daemon: Daemon) -> None:
    def shown(*words: str) -> str:
        with terminal(*words, port=daemon.port) as screen:
            status, text = ended(screen)
        assert status == 0
        return text

    with daemon.connect() as connection:
        old, other = connection.ask("book 3 2 --booking door")["tickets"]
    whole = shown("redeem", "door")
    by_scan = rf"redeemed at {TIME} by this scan\n"
    assert re.search(rf"  ticket {old}, {by_scan}  ticket {other}, {by_scan}", whole)
    history = rf"  redeemed at {TIME}\n  annulled at {TIME}: scanned twice\n"
    annulled = shown("annul", old, "--reason", "scanned twice")
    assert re.fullmatch(rf"ticket {old}: event 3, booking door, valid\n{history}", annulled)
    new = shown("reissue", old).split()[1].rstrip(":")
    assert shown("reissue", old) == f"ticket {new}: event 3, booking door, valid, as before\n"
    assert re.search(rf"  reissued at {TIME}: {old} is now {new}\n$", shown("show", "door"))
    assert ctl("show", old, port=daemon.port).stdout.split("\t")[:4] == [old, "3", "door", "reissued"]
    line = ctl("reissue", old, port=daemon.port).stdout
    assert line == f"{new}\t3\tdoor\tvalid\t\treplayed\n"


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
        booked_at="2027-03-11T20:00:00Z",
        redeemed=["t"],
    )
    assert "\n  ticket t, redeemed\n" in render(decode_reply(reply), "table")


def test_a_terminal_shows_bookings_in_columns(daemon: Daemon) -> None:
    with daemon.connect() as connection:
        held = connection.ask("hold 3 1 --booking columns --buyer 'Anna B.'")
    with terminal("bookings", port=daemon.port) as screen:
        head, *rows = ended(screen)[1].splitlines()
    assert head.split() == ["ID", "EVENT", "QUANTITY", "STATE", "BOOKED_AT", "EXPIRES", "BUYER", "BY"]
    made, until = (f"{held[name][:10]} {held[name][11:19]} UTC" for name in ("booked_at", "expires"))
    assert ["columns", "3", "1", "held", made, until, "Anna B."] in (re.split("  +", row) for row in rows)


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
