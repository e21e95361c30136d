"""When an event is on sale: not before it opens, not from when it closes, not while it is paused. On both ledgers."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Connection, Daemon
from tests.faketime import Clock
from tests.faults.disk import RealDisk
from tests.serving.conftest import on_both_loops, serving, until

DATE = "2027-03-11T20:00:00Z"
# In the past and in the future of whoever runs the tests.
PAST, LATER_PAST = "2001-01-01T10:00:00Z", "2001-01-01T11:00:00Z"
FUTURE, LATER = "2101-01-01T10:00:00Z", "2101-01-01T11:00:00Z"
CROWD = 8


def created(connection: Connection, event: str, options: str = "", capacity: int = 100) -> dict[str, Any]:
    """Put an event on sale, and return the reply."""
    reply = connection.ask(f"create Jazz {DATE} {capacity} --id {event} {options}")
    assert reply["reply"] == "event"
    return reply


@pytest.mark.parametrize("way", ["book {} 1", "hold {} 1", "book {} 1 --booking {}-b", "hold {} 1 --booking {}-h"])
def test_nothing_is_sold_before_the_sale_opens(sale: Daemon, way: str) -> None:
    event = f"early-{abs(hash(way))}"
    with sale.connect() as connection:
        created(connection, event, f"--opens {FUTURE}")
        refusal = connection.ask(way.replace("{}", event))
        assert (refusal["code"], refusal["opens"]) == ("not_on_sale", FUTURE)
        assert (refusal["available"], refusal["version"]) == (100, 0)
        assert refusal["message"] == f"the sale of event {event} opens at {FUTURE}"
        assert connection.ask(f"show {event}")["version"] == 0
        # The same request is done once the sale is open: nothing of it was kept.
        connection.ask(f"amend {event} --opens none")
        booked = connection.ask(way.replace("{}", event))
        assert (booked["reply"], booked["version"], "replayed" in booked) == ("booking", 2, False)


def test_a_closed_and_a_paused_sale_say_so(sale: Daemon) -> None:
    with sale.connect() as connection:
        created(connection, "over", f"--opens {PAST} --closes {LATER_PAST}")
        created(connection, "pause", "--paused")
        created(connection, "both", f"--opens {FUTURE} --closes {LATER} --paused")
        for booking in ("", " --booking {}-b"):
            over, pause, both = [
                connection.ask(f"book {event} 1" + booking.format(event)) for event in ("over", "pause", "both")
            ]
            assert {refusal["code"] for refusal in (over, pause, both)} == {"not_on_sale"}
            assert over["message"] == f"the sale of event over closed at {LATER_PAST}"
            assert pause["message"] == "the sale of event pause is paused; try again later"
            assert "opens" not in over and "opens" not in pause
            assert both["opens"] == FUTURE
        connection.ask("amend pause --no-paused")
        assert connection.ask("book pause 1 --booking pause-b")["state"] == "confirmed"
        connection.ask("amend over --closes none")
        assert connection.ask("book over 1 --booking over-b")["state"] == "confirmed"


def test_what_is_not_on_sale_is_told_before_what_is_sold_out(sale: Daemon) -> None:
    with sale.connect() as connection:
        created(connection, "nothing", f"--opens {FUTURE} --per-buyer 1", capacity=1)
        for booking in ("", " --booking nothing-b"):
            assert connection.ask(f"book nothing 5{booking}")["code"] == "not_on_sale"
        connection.ask("amend nothing --opens none")
        for booking in ("", " --booking nothing-b"):
            assert connection.ask(f"book nothing 5{booking}")["code"] == "bad_request"
            assert connection.ask(f"book nothing 5 --buyer ann{booking}")["code"] == "sold_out"


@pytest.mark.parametrize("end", ["--paused", f"--closes {PAST}"])
def test_what_is_held_confirms_after_the_sale_has_ended(sale: Daemon, end: str) -> None:
    event = f"held-{len(end)}"
    with sale.connect() as connection:
        created(connection, event)
        for booking in "abc":
            assert connection.ask(f"hold {event} 2 --booking {event}-{booking}")["state"] == "held"
        assert connection.ask(f"amend {event} {end}")["held"] == 6
        assert connection.ask(f"book {event} 1 --booking {event}-d")["code"] == "not_on_sale"
        assert connection.ask(f"confirm {event}-a")["state"] == "confirmed"
        assert connection.ask(f"extend {event}-b 400")["state"] == "held"
        assert connection.ask(f"release {event}-c")["state"] == "released"
        assert connection.ask(f"cancel {event}-a")["state"] == "cancelled"
        # What was granted before is replayed, whatever became of the sale.
        assert connection.ask(f"hold {event} 2 --booking {event}-b")["replayed"]


def test_list_show_and_watch_show_the_sale(sale: Daemon) -> None:
    window = {"opens": FUTURE, "closes": LATER, "paused": True, "per_buyer": 4}
    with sale.connect() as connection, sale.connect() as watcher:
        created(connection, "plain")
        shown = created(connection, "window", f"--opens {FUTURE} --closes {LATER} --paused --per-buyer 4")
        assert window.items() <= shown.items()
        assert connection.ask("show window") == shown
        assert watcher.ask("watch window") == shown
        listed = {event["id"]: event for event in connection.events()}
        assert listed["window"] == {name: value for name, value in shown.items() if name != "reply"}
        assert not window.keys() & listed["plain"].keys()
        amended = connection.ask("amend window --opens none --closes none --no-paused --per-buyer none")
        assert not window.keys() & amended.keys()
        assert watcher.read() == amended == connection.ask("show window")
        # The original create is replayed with the sale that it was given.
        again = created(connection, "window", f"--opens {FUTURE} --closes {LATER} --paused --per-buyer 4")
        assert window.items() <= again.items()
        assert again["replayed"]


def test_times_of_a_sale_are_whole_milliseconds_rounded_up(sale: Daemon) -> None:
    with sale.connect() as connection:
        shown = created(connection, "fine", "--opens 2101-01-01T10:00:00.000001Z --closes 2101-01-01T12:00:00.5+01:00")
        assert datetime.fromisoformat(shown["opens"]) == datetime(2101, 1, 1, 10, 0, 0, 1_000, UTC)
        assert datetime.fromisoformat(shown["closes"]) == datetime(2101, 1, 1, 11, 0, 0, 500_000, UTC)
        assert connection.ask("amend fine --opens 2101-01-01T10:00:00.0009Z")["replayed"]


def _hammer(daemon: Daemon, event: str, number: int) -> list[dict[str, Any]]:
    """Ask for a ticket until there is one, with a booking id or without."""
    replies: list[dict[str, Any]] = []
    with daemon.connect() as connection:
        while not replies or replies[-1]["reply"] != "booking":
            booking = f" --booking {event}-{number}" if number % 2 else ""
            replies.append(connection.ask(f"book {event} 1{booking}"))
    return replies


def test_a_crowd_that_hammers_gets_nothing_before_the_sale_opens(sale: Daemon) -> None:
    opens = datetime.now(UTC) + timedelta(seconds=1)
    with sale.connect() as connection, ThreadPoolExecutor(CROWD) as threads:
        created(connection, "rush", f"--opens {opens.isoformat()}")
        crowds = list(threads.map(lambda number: _hammer(sale, "rush", number), range(CROWD)))
        for *refusals, booked in crowds:
            assert refusals, "it came before the sale"
            # At the moment of the opening, what memory refuses may be ``busy`` instead.
            assert {refusal["code"] for refusal in refusals} <= {"not_on_sale", "busy"}
            assert datetime.fromisoformat(booked["booked_at"]) >= opens
            assert all(refusal["version"] == 0 for refusal in refusals if refusal["code"] == "not_on_sale")
        assert sorted(booked["version"] for *_, booked in crowds) == list(range(1, CROWD + 1))
        assert connection.ask("show rush")["sold"] == CROWD


@on_both_loops
async def test_who_comes_too_early_waits_for_no_commit(tmp_path: Path, disk: RealDisk) -> None:
    clock = Clock()
    async with serving(tmp_path, clock=clock, events=2) as served:
        visitor, buyer = await served.connect(), await served.connect()
        opens = clock.time + timedelta(seconds=60)
        await visitor.ask(f"amend 2 --opens {opens.isoformat()}")
        disk.sync_may_end.clear()
        buyer.send(b"book 1 1\n")
        await until(lambda: served.service.requests == 2)
        # Without an id it is refused from memory.
        clock.move(59.999)
        early = await visitor.ask("book 2 1")
        assert (early["code"], early["version"]) == ("not_on_sale", 1)
        # An id may be that of a booking of earlier, so the ledger is asked.
        visitor.send(b"book 2 1 --booking mine\n")
        await until(lambda: served.service.requests == 4)
        disk.sync_may_end.set()
        assert (await visitor.read())["code"] == "not_on_sale"
        clock.move(0.001)
        assert (await visitor.ask("book 2 1"))["version"] == 2
        assert (await buyer.read())["reply"] == "booking"
