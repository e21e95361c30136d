"""ticketctl report: what was sold, held, cancelled and redeemed of an event, hour by hour."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.conftest import BREAK, answer, ctl, ended, lying, nobody, terminal
from tests.daemon import Daemon
from tests.ticketctl.test_render import FACTS
from tests.ticketctl.test_times import BERLIN

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

EVENT = answer("event", id="1", name="Jazz", **FACTS)
HEAD = ["hour", "sold", "held", "cancelled", "redeemed"]


def record(booking: str, at: str, **more: Any) -> dict[str, Any]:
    facts = {"id": booking, "event": "1", "quantity": 1, "state": "confirmed", "tickets": [], "available": 9}
    return {**facts, "version": 1, "booked_at": at, **more}


def change(what: str, at: str, **more: Any) -> dict[str, Any]:
    return {"what": what, "at": at, "available": 9, "version": 1, **more}


def held(seconds: int = 300) -> dict[str, Any]:
    return {"available": 9, "version": 1, "seconds": seconds}


# Two pages: a sale over three hours, with the summer time of Berlin.
FIRST = [
    record("a", "2027-07-11T18:00:00Z", quantity=3),
    record(
        "b",
        "2027-07-11T18:59:59.999Z",
        quantity=2,
        made=held(),
        changes=[
            change("extend", "2027-07-11T18:59:59.999Z", expires="2027-07-11T19:59:00Z"),
            change("confirm", "2027-07-11T19:00:00Z"),
            change("reissue", "2027-07-11T19:30:00Z", tickets=["b.1", "b.2"]),
            change("cancel", "2027-07-12T06:00:00Z", tickets=["b.2"]),
        ],
        redeemed=["b.3"],
        redeemed_at=["2027-07-12T06:10:00Z"],
    ),
]
SECOND = [
    record("c", "2027-07-11T19:10:00Z", quantity=5, made=held(), changes=[change("expire", "2027-07-11T19:15:00Z")]),
    record("d", "2027-07-11T19:20:00Z", quantity=1, made=held(), changes=[change("release", "2027-07-11T19:21:00Z")]),
]
PAGES = (
    answer("bookings", bookings=FIRST, more=True, last="b"),
    answer("bookings", bookings=[], more=True, last="bb"),
    answer("bookings", bookings=SECOND),
)
ROWS = [
    ["2027-07-11T18:00:00Z", "3", "2", "0", "0"],
    ["2027-07-11T19:00:00Z", "2", "6", "0", "0"],
    ["2027-07-12T06:00:00Z", "0", "0", "1", "1"],
]


def test_a_report_counts_the_tickets_of_all_pages_by_hour() -> None:
    with lying(EVENT, *PAGES) as liar:
        done = ctl("report", "1", port=liar.port)
        asked = [liar.asked() for _ in range(4)]
    assert (done.returncode, done.stderr) == (0, "")
    assert list(csv.reader(io.StringIO(done.stdout, newline=""))) == [HEAD, *ROWS]
    assert done.stdout.count("\r\n") == 4
    assert [(each["cmd"], each.get("event"), each.get("after")) for each in asked[1:]] == [
        ("bookings", "1", None),
        ("bookings", "1", "b"),
        ("bookings", "1", "bb"),
    ]


def test_a_report_in_json_has_the_hours_and_the_sums() -> None:
    with lying(EVENT, *PAGES) as liar:
        done = ctl("--json", "report", "1", port=liar.port)
    report = msgspec.json.decode(done.stdout)
    hours = [[str(value) for value in hour.values()] for hour in report.pop("hours")]
    assert hours == ROWS
    assert report == {"reply": "report", "event": "1", "sold": 5, "held": 8, "cancelled": 1, "redeemed": 1}


def test_a_report_on_a_terminal_has_bars_and_hours_of_the_local_zone() -> None:
    with (
        lying(EVENT, *PAGES) as liar,
        terminal("report", "1", port=liar.port, env={**BERLIN, "NO_COLOR": "1"}) as screen,
    ):
        status, shown = ended(screen)
    assert status == 0
    title, head, *rows, sums = shown.splitlines()
    assert title == "Jazz (1): 9 tickets, 5 left, 0 held, 4 sold"
    assert head.split() == ["HOUR", "█", "SOLD", "▒", "HELD", "░", "CANCELLED", "▪", "REDEEMED"]
    assert [row.split()[:7] for row in rows] == [
        ["2027-07-11", "20:00", "CEST", *ROWS[0][1:]],
        ["2027-07-11", "21:00", "CEST", *ROWS[1][1:]],
        ["2027-07-12", "08:00", "CEST", *ROWS[2][1:]],
    ]
    assert sums.split() == ["total", "5", "8", "1", "1"]
    bars = [row.split()[7] for row in rows]
    # The busiest hour has the longest bar, and each part has its share of it.
    assert len(bars[1]) > len(bars[0]) > len(bars[2])
    assert bars[1].count("▒") > 2 * bars[1].count("█") > 0
    assert set(bars[0]) == {"█", "▒"}
    assert set(bars[2]) == {"░", "▪"}


@pytest.mark.parametrize("columns", [80, 60, 48])
def test_a_report_fits_a_narrow_terminal_with_all_its_figures(columns: int) -> None:
    env = {**BERLIN, "NO_COLOR": "1"}
    with lying(EVENT, *PAGES) as liar, terminal("report", "1", port=liar.port, env=env, size=(24, columns)) as screen:
        status, shown = ended(screen)
    lines = [line.rstrip() for line in shown.splitlines()]
    assert status == 0
    assert max(map(len, lines)) <= columns
    assert ("█ sold  ▒ held  ░ cancelled  ▪ redeemed" in lines) == (columns < 80)
    *rows, sums = lines[-4:]
    figures = [[word for word in row.split() if word.isdigit()] for row in rows]
    assert figures == [row[1:] for row in ROWS]
    assert sums.split() == ["total", "5", "8", "1", "1"]
    bars = [row.split()[-1] for row in rows]
    assert len(bars[1]) > len(bars[0]) > len(bars[2]) > 0


def test_a_report_tells_what_was_done_in_this_hour(daemon: Daemon) -> None:
    before = datetime.now(UTC)
    with daemon.connect() as connection:
        connection.ask("create Jazz 2037-07-11T20:00:00Z 50 --id jazz")
        first, second, _ = connection.ask("book jazz 3 --booking a")["tickets"]
        connection.ask("hold jazz 4 --booking b")
        connection.ask("confirm b")
        connection.ask("hold jazz 5 --booking c")
        connection.ask(f"cancel a --tickets {first}")
        connection.ask(f"redeem {second}")
        connection.ask("redeem b")
        connection.ask("book 1 7")
        (ticket, *_) = connection.ask("show b")["tickets"]
        connection.ask(f"annul {ticket}")
    hours = list(csv.DictReader(io.StringIO(ctl("report", "jazz", port=daemon.port).stdout)))
    # The hour may end while this runs.
    assert {name: sum(int(hour[name]) for hour in hours) for name in HEAD[1:]} == {
        "sold": 7,
        "held": 9,
        "cancelled": 1,
        "redeemed": 4,
    }
    begin = datetime.fromisoformat(hours[0]["hour"])
    assert before - timedelta(hours=1) < begin <= datetime.now(UTC)


def test_a_report_of_an_event_without_bookings_says_so(daemon: Daemon) -> None:
    done = ctl("report", "3", port=daemon.port)
    assert (done.returncode, done.stdout.splitlines()) == (0, [",".join(HEAD)])
    with terminal("report", "3", port=daemon.port) as screen:
        assert ended(screen) == (0, "Event 3 (3): 300 tickets, 300 left, 0 held, 0 sold\nno bookings\n")


def test_nonsense_in_bookings_does_not_break_a_report() -> None:
    nonsense = [
        record("a", "2027-07-11T18:00:00", quantity=10**15, made=held()),
        record("b", "2027-07-11T18:00:00Z", quantity=-(10**15)),
        record("c", "0001-01-01T00:00:00Z", quantity=-1),
        record("d", "9999-12-31T23:59:59-23:59", quantity=0),
    ]
    replies = (EVENT, answer("bookings", bookings=nonsense))
    with lying(*replies) as liar, terminal("report", "1", port=liar.port, env=BERLIN) as screen:
        status, shown = ended(screen)
    assert (status, len(shown.splitlines())) == (0, 6)
    with lying(*replies) as liar:
        done = ctl("report", "1", port=liar.port)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 4)


def test_a_report_that_fails_writes_nothing_but_the_error(daemon: Daemon) -> None:
    unknown = ctl("report", "nope", port=daemon.port)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr.startswith("ticketctl: event_not_found: there is no event nope")
    with lying(EVENT, PAGES[0], BREAK, BREAK) as liar:
        broken = ctl("report", "1", port=liar.port)
    assert (broken.returncode, broken.stdout, broken.stderr.count("\n")) == (3, "", 1)
    with nobody() as port:
        assert ctl("report", "1", port=port).returncode == 3
        for words in ([], ["a/b"], ["1", "2"], ["1", "--csv"]):
            wrong = ctl("report", *words, port=port)
            assert (wrong.returncode, "; usage: report EVENT" in wrong.stderr) == (2, True)
