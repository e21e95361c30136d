"""What the sale of an event does at a moment, and how the live table counts down to it."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import ended, terminal
from tests.daemon import running, write_events
from tests.screens import Screen
from tests.ticketctl.test_shell import CTRL_C
from tests.ticketctl.test_watch import ask
from ticketctl.sale import countdown, phase
from ticketd.wire.replies import EventFacts

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

OPENS = datetime(2027, 7, 1, 10, tzinfo=UTC)
CLOSES = datetime(2027, 7, 11, 19, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def event(**sale: object) -> EventFacts:
    return EventFacts("1", "E", CLOSES, 9, 9, 0, 0, 0, **sale)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (timedelta(days=2, hours=3, minutes=4, seconds=5), "2 d 3 h"),
        (timedelta(days=1), "1 d 0 h"),
        (timedelta(hours=23, minutes=59, seconds=59), "23:59:59"),
        (timedelta(minutes=4, seconds=5), "04:05"),
        (SECOND, "00:01"),
        (timedelta(microseconds=1), "00:01"),
        (SECOND + timedelta(microseconds=1), "00:02"),
    ],
)
def test_a_countdown_comes_to_nothing_only_at_its_end(left: timedelta, text: str) -> None:
    assert countdown(left) == text


def test_a_sale_counts_down_to_its_begin_and_then_to_its_end() -> None:
    window = event(opens=OPENS, closes=CLOSES)
    assert phase(window, OPENS - 90 * SECOND) == "opens in 01:30"
    assert phase(window, OPENS - timedelta(milliseconds=1)) == "opens in 00:01"
    assert phase(window, OPENS) == "closes in 10 d 9 h"
    assert phase(window, CLOSES - SECOND) == "closes in 00:01"
    assert phase(window, CLOSES) == phase(window, CLOSES + SECOND) == "closed"
    assert phase(event(opens=OPENS), OPENS) == ""


def test_a_pause_hides_the_countdown_until_the_sale_is_over() -> None:
    paused = event(opens=OPENS, closes=CLOSES, paused=True)
    assert phase(paused, OPENS - SECOND) == phase(paused, OPENS) == "paused"
    assert phase(paused, CLOSES) == "closed"
    assert phase(event(paused=True), OPENS) == "paused"


def test_times_without_an_offset_do_not_break_the_countdown() -> None:
    nonsense = event(opens=OPENS.replace(tzinfo=None), closes=datetime.max)
    assert phase(nonsense, OPENS - SECOND) == "opens in 00:01"
    assert phase(nonsense, OPENS).startswith("closes in 29")


def test_the_live_table_counts_down_to_the_sale(tmp_path: Path) -> None:
    write_events(tmp_path, 100, 200)
    size = (20, 120)
    with running(tmp_path) as daemon, terminal("watch", port=daemon.port, size=size) as child:
        screen = Screen(child, size)
        screen.until_text("Event 2")
        opens = (datetime.now(UTC) + timedelta(hours=9)).isoformat()
        ask(daemon, f"amend 1 --opens {opens} --per-buyer 4")
        head, row, *_ = screen.until_text("opens in ")
        assert head.split()[-3:] == ["SALE", "PER", "BUYER"]
        assert re.search(r" opens in 0[89]:\d\d:\d\d +4$", row)
        # It moves by itself.
        screen.until(lambda lines: lines[1] != row)
        ask(daemon, "amend 1 --paused")
        screen.until(lambda lines: re.search(r"Event 1 .* paused +4$", lines[1]))
        ask(daemon, "amend 1 --no-paused --opens none --per-buyer none")
        screen.until(lambda lines: lines[0].endswith("CAPACITY"))
        child.send(CTRL_C)
        screen.ended()
    assert child.exitstatus == 130


def test_a_list_has_one_line_an_event_however_narrow(tmp_path: Path) -> None:
    """An event has no more than a usual id and name here, but everything that its sale may have."""

    def shown(*words: str, columns: int) -> list[str]:
        with terminal(*words, port=daemon.port, env={"TZ": "Europe/Berlin"}, size=(24, columns)) as screen:
            lines = ended(screen)[1].rstrip("\n").split("\n")
        assert max(map(len, lines)) <= columns
        return lines

    with running(tmp_path) as daemon:
        ask(daemon, 'create "Jazz Night" 2099-07-11T20:00:00Z 1000 --id jazz --opens 2027-07-01T10:00:00Z')
        ask(daemon, "amend jazz --opens 2098-01-01T10:00:00Z --closes 2099-07-11T20:00:00Z --per-buyer 4")
        head, row = shown("list", columns=80)
        assert head.split() == ["ID", "NAME", "DATE", "AVAILABLE", "CAPACITY", "SALE"]
        assert re.fullmatch(r"jazz  Jazz Night  2099-07-11 22:00 +1000 +1000  opens in \d+ d \d+ h", row)
        for columns in (60, 40):
            head, row = shown("list", columns=columns)
            assert head.split()[:2] == ["ID", "NAME"]
            assert row.startswith("jazz  Jazz Night  ")
            assert row[head.index("AVAILABLE") :].split()[0] == "1000"
        *lines, per_buyer = shown("show", "jazz", columns=60)
        assert lines[:4] == [
            "id         jazz",
            "name       Jazz Night",
            "date       2099-07-11 22:00 CEST",
            "available  1000",
        ]
        assert per_buyer == "per_buyer  4"
        # All of it is in show.
        *_, below = shown("show", "jazz", columns=80)
        assert below == "  opens 2098-01-01 11:00 CET, closes 2099-07-11 22:00 CEST, 4 per buyer"
