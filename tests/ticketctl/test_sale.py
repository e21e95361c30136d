"""What the sale of an event does at a moment, and how the live table counts down to it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.conftest import ended, terminal
from tests.daemon import running, write_events
from tests.ticketctl.test_shell import CTRL_C
from tests.ticketctl.test_watch import ask
from ticketctl.sale import countdown, sale
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
    assert sale(window, OPENS - 90 * SECOND) == "opens in 01:30"
    assert sale(window, OPENS - timedelta(milliseconds=1)) == "opens in 00:01"
    assert sale(window, OPENS) == "closes in 10 d 9 h"
    assert sale(window, CLOSES - SECOND) == "closes in 00:01"
    assert sale(window, CLOSES) == sale(window, CLOSES + SECOND) == "closed"
    assert sale(event(opens=OPENS), OPENS) == ""


def test_a_pause_hides_the_countdown_until_the_sale_is_over() -> None:
    paused = event(opens=OPENS, closes=CLOSES, paused=True)
    assert sale(paused, OPENS - SECOND) == sale(paused, OPENS) == "paused"
    assert sale(paused, CLOSES) == "closed"
    assert sale(event(paused=True), OPENS) == "paused"


def test_times_without_an_offset_do_not_break_the_countdown() -> None:
    nonsense = event(opens=OPENS.replace(tzinfo=None), closes=datetime.max)
    assert sale(nonsense, OPENS - SECOND) == "opens in 00:01"
    assert sale(nonsense, OPENS).startswith("closes in 29")


def test_what_a_buyer_may_have_stands_beside_the_countdown() -> None:
    assert sale(event(per_buyer=4), OPENS) == "4 per buyer"
    assert sale(event(per_buyer=4, opens=OPENS), OPENS - SECOND) == "opens in 00:01, 4 per buyer"
    assert sale(event(), OPENS) == ""


def test_the_live_table_counts_down_to_the_sale(tmp_path: Path) -> None:
    write_events(tmp_path, 100, 200)
    with running(tmp_path) as daemon, terminal("watch", port=daemon.port) as screen:
        screen.expect(r"CAPACITY *\r\n")
        opens = (datetime.now(UTC) + timedelta(hours=9)).isoformat()
        ask(daemon, f"amend 1 --opens {opens} --per-buyer 4")
        screen.expect(r"CAPACITY +SALE")
        # It moves by itself.
        screen.expect(r"Event 1[^\n]* opens in (\d\d:\d\d:\d\d), 4 per buyer")
        first = screen.match[1]
        while screen.match[1] == first:
            screen.expect(r"Event 1[^\n]* opens in (\d\d:\d\d:\d\d), 4 per buyer")
        ask(daemon, "amend 1 --paused")
        screen.expect(r"Event 1[^\n]* paused, 4 per buyer")
        ask(daemon, "amend 1 --no-paused --opens none --per-buyer none")
        screen.expect(r"CAPACITY *\r\n")
        screen.send(CTRL_C)
        assert ended(screen)[0] == 130


def test_ids_names_and_figures_are_whole_on_a_narrow_terminal(tmp_path: Path) -> None:
    """An event has no more than a usual id and name here, but everything that its sale may have."""
    with running(tmp_path) as daemon:
        ask(daemon, 'create "Jazz Night" 2099-07-11T20:00:00Z 1000 --id jazz --opens 2027-07-01T10:00:00Z')
        ask(daemon, "amend jazz --opens 2099-01-01T10:00:00Z --closes 2099-07-11T20:00:00Z --paused --per-buyer 4")
        narrow = {"COLUMNS": "80", "LINES": "24", "TZ": "Europe/Berlin"}
        with terminal("list", port=daemon.port, env=narrow) as screen:
            lines = ended(screen)[1].split("\n")
        assert lines[0].split() == ["ID", "NAME", "DATE", "AVAILABLE", "HELD", "SOLD", "CAPACITY"]
        assert lines[1].split() == ["jazz", "Jazz", "Night", "2099-07-11", "22:00", "CEST", "1000", "0", "0", "1000"]
        assert lines[2] == "  opens 2099-01-01 11:00 CET, closes 2099-07-11 22:00 CEST, paused, 4 per buyer"
        assert max(map(len, lines)) <= 80
        ask(daemon, "amend jazz --no-paused")
        with terminal("watch", port=daemon.port, env=narrow) as screen:
            screen.expect(r"jazz  Jazz Night +1000 +0 +0 +1000  opens in \d+ d \d+ h")
            screen.send(CTRL_C)
            assert ended(screen)[0] == 130
