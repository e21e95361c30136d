"""A sale that is moved: what one ledger exported and another has imported is the same sale."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import SECONDS_MAX, command_line, ctl, environment
from tests.daemon import Connection, Daemon, running, until, write_events

Reply = dict[str, Any]


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with a sale: two events, one of them partly sold elsewhere."""
    folder = tmp_path / "old"
    folder.mkdir()
    write_events(folder, 5_000, 200, available=(5_000, 150))
    with running(folder) as daemon:
        yield daemon


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def where(request: pytest.FixtureRequest) -> list[str]:
    """Say where a ledger is that has no event yet."""
    return ["--store", request.getfixturevalue("database")] if request.param == "PostgreSQL" else []


@pytest.fixture
def new(where: list[str], tmp_path: Path) -> Iterator[Daemon]:
    """A daemon without any event."""
    folder = tmp_path / "new"
    folder.mkdir()
    with running(folder, *where) as daemon:
        yield daemon


def exported(daemon: Daemon, *what: str) -> str:
    done = ctl("export", *what, port=daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def imported(daemon: Daemon, lines: str) -> list[Reply]:
    """Import lines through a pipe, and return what became of events, bookings and tickets."""
    done = ctl("import", "/dev/stdin", "--json", port=daemon.port, stdin=lines)
    assert (done.returncode, done.stderr) == (0, "")
    summary = msgspec.json.decode(done.stdout)
    return [summary[kind] for kind in ("events", "bookings", "tickets")]


def moved(old: Daemon, new: Daemon) -> None:
    assert [kind["refused"] for kind in imported(new, exported(old))] == [{}, {}, {}]


def everything(daemon: Daemon) -> tuple[list[Reply], list[Reply]]:
    """Return what the daemon shows of each booking and ticket, and its events without their versions."""
    with daemon.connect() as connection:
        ids = [row["id"] for what in ("bookings", "tickets") for row in pages(connection, what)]
        shown = [connection.ask(f"show {id_}") for id_ in ids]
        events = connection.ask("list")["events"]
    for event in events:
        assert event["sold"] + event["held"] + event["available"] == event["capacity"]
        del event["version"]
    return shown, events


def pages(connection: Connection, what: str) -> Iterator[Reply]:
    after = ""
    while page := connection.ask(f"{what} --limit 100 {after}")[what]:
        yield from page
        after = f"--after {page[-1]['id']}"


def live(connection: Connection) -> list[str]:
    """Let bookings come to every state there is; return the requests that did it."""
    asked: list[str] = []

    def ask(line: str) -> Reply:
        asked.append(line)
        return connection.ask(line)

    ask("book 1 2 --booking booked")
    _, second, third = ask("book 1 3 --booking some-gone")["tickets"]
    ask(f"cancel some-gone --tickets {second}")
    ask(f"redeem {third}")
    ask("book 2 2 --booking gone")
    ask("cancel gone")
    ask("hold 1 4 --booking held --seconds 86400")
    ask("hold 2 4 --booking released")
    ask("release released")
    ask("hold 2 1 --booking confirmed")
    ticket = ask("confirm confirmed")["tickets"][0]
    ask(f"redeem {ticket} --at 2026-11-22T20:15:00.123Z")
    ask("hold 2 2 --booking confirmed-and-gone")
    ask("confirm confirmed-and-gone")
    ask("cancel confirmed-and-gone")
    ask("hold 2 5 --booking expired --seconds 1")
    until(lambda: connection.ask("show expired")["state"] == "expired")
    return asked


def test_a_sale_that_was_moved_shows_the_same_and_gives_every_request_the_reply_it_had(
    old: Daemon, new: Daemon
) -> None:
    with old.connect() as there, new.connect() as here:
        asked = live(there)
        lines = exported(old)
        assert [(kind["done"], kind["known"]) for kind in imported(new, lines)] == [(2, 0), (8, 0), (2, 0)]
        assert everything(new) == everything(old)
        more = ["book 1 9 --booking booked", "confirm expired", "cancel released", "release expired"]
        more += ["create 'Event 2' 2027-03-02T20:00:00Z 200 --id 2 --available 150"]
        replies = [there.ask(line) for line in asked + more]
        assert [here.ask(line) for line in asked + more] == replies
        assert [reply for reply in replies if not reply.get("replayed") and "code" not in reply] == []
        assert sum("code" not in reply for reply in replies) >= 14
        assert [(kind["done"], kind["known"]) for kind in imported(new, lines)] == [(0, 2), (0, 8), (0, 2)]
        assert everything(new) == everything(old)


def test_the_versions_of_an_event_go_on_from_where_they_were(old: Daemon, new: Daemon) -> None:
    with old.connect() as there, new.connect() as here:
        live(there)
        versions = {event["id"]: event["version"] for event in there.ask("list")["events"]}
        moved(old, new)
        # Event 1 has a booking that is held.
        assert here.ask("book 1 1")["version"] == versions["1"] + 2
        assert here.ask("book 2 1")["version"] == versions["2"] + 1


def test_what_is_held_is_held_until_its_time_and_what_ran_out_on_the_way_is_on_sale(old: Daemon, new: Daemon) -> None:
    with old.connect() as there, new.connect() as here:
        there.ask("hold 1 4 --booking held --seconds 86400")
        there.ask("hold 1 3 --booking brief --seconds 1")
        there.ask("hold 2 2 --booking late --seconds 1")
        events = exported(old, "events")
        until(lambda: there.ask("show brief")["state"] == there.ask("show late")["state"] == "expired")
        bookings = exported(old, "bookings")
        imported(new, events + bookings)
        assert [(event["available"], event["held"], event["sold"]) for event in everything(new)[1]] == [
            (4_996, 4, 0),
            (150, 0, 50),
        ]
        assert [here.ask(f"show {booking}")["state"] for booking in ("held", "brief", "late")] == [
            *("held", "expired", "expired")
        ]
        assert here.ask("confirm brief")["code"] == "hold_expired"
        assert len(here.ask("confirm held")["tickets"]) == 4
        assert [(kind["done"], kind["known"]) for kind in imported(new, events + bookings)] == [(0, 2), (0, 3), (0, 0)]


def test_a_booking_of_a_thousand_tickets_is_moved_whole_whatever_became_of_them(old: Daemon, new: Daemon) -> None:
    with old.connect() as there, new.connect() as here:
        tickets = there.ask("book 1 1000 --booking large")["tickets"]
        there.ask("hold 1 1000 --booking large-and-gone")
        there.ask("confirm large-and-gone")
        some = f"cancel large --tickets {','.join(tickets[::3])}"
        for request in (some, f"cancel large --tickets {tickets[1]}", "cancel large-and-gone", f"redeem {tickets[2]}"):
            assert "code" not in there.ask(request)
        moved(old, new)
        assert everything(new) == everything(old)
        for again in (
            "book 1 1000 --booking large",
            some,
            "confirm large-and-gone",
            "cancel large-and-gone",
        ):
            assert here.ask(again) == there.ask(again)


def test_a_booking_of_which_only_a_part_was_restored_cannot_be_changed_until_it_is_whole(
    old: Daemon, new: Daemon
) -> None:
    with old.connect() as there, new.connect() as here:
        there.ask("book 1 100 --booking large")
        made = next(pages(there, "bookings"))
        imported(new, exported(old, "events"))
        facts = {name: made[name] for name in ("event", "quantity", "available", "version")}
        part = {"cmd": "restore", "booking": "large", **facts, "tickets": made["tickets"][:80]}
        assert len(here.ask(msgspec.json.encode(part))["tickets"]) == 80
        for request in ("book 1 100 --booking large", "confirm large", "release large", "cancel large"):
            assert (here.ask(request)["code"], here.ask(request)["retry_after"]) == ("busy", 1.0)
        moved(old, new)
        assert everything(new) == everything(old)
        assert here.ask("cancel large") == there.ask("cancel large")


def test_an_import_that_broke_off_is_run_again_and_changes_nothing_twice(old: Daemon, new: Daemon) -> None:
    with old.connect() as there:
        live(there)
        there.ask("book 1 100 --booking large")
    lines = exported(old).splitlines(keepends=True)
    for cut in (1, 2, 5, 9, len(lines)):
        imported(new, "".join(lines[:cut]))
        everything(new)
    assert everything(new) == everything(old)


def test_a_daemon_that_is_killed_in_the_middle_of_an_import_has_the_sale_after_another_one(
    old: Daemon, where: list[str], tmp_path: Path
) -> None:
    with old.connect() as there:
        there.send(b"book 1 1\n" * 4_000)
        for _ in range(4_000):
            there.read()
    (tmp_path / "export").write_text(exported(old))
    with running(tmp_path, *where) as new:
        importing = subprocess.Popen(
            command_line(("import", str(tmp_path / "export")), new.port), stderr=subprocess.PIPE, env=environment()
        )
        new.wait_line("committed changes=")
        new.kill()
        _, errors = importing.communicate(timeout=SECONDS_MAX)
    assert importing.returncode in (3, 4), errors
    with running(tmp_path, *where) as new:
        moved(old, new)
        assert exported(new) == exported(old)


def test_whoever_buys_while_a_sale_is_imported_gets_what_is_left_and_not_a_ticket_more(
    old: Daemon, new: Daemon, tmp_path: Path
) -> None:
    with old.connect() as there:
        there.send(b"book 1 2\n" * 2_000)
        for _ in range(2_000):
            there.read()
    lines = exported(old)
    events = exported(old, "events")
    imported(new, events)
    (tmp_path / "export").write_text(lines)
    with new.connect() as buyer:
        importing = subprocess.Popen(
            command_line(("import", str(tmp_path / "export")), new.port), stdout=subprocess.PIPE, env=environment()
        )
        buyer.send(b"book 1 1\n" * 1_500)
        bought = [buyer.read() for _ in range(1_500)]
        importing.communicate(timeout=SECONDS_MAX)
        sold = [reply for reply in bought if reply["reply"] == "booking"]
        assert importing.returncode == 0
        assert len(sold) == 1_000
        assert {reply["code"] for reply in bought if reply["reply"] == "error"} == {"sold_out"}
        event = buyer.ask("show 1")
        assert (event["available"], event["sold"]) == (0, 5_000)
        assert sum(len(booking["tickets"]) for booking in pages(buyer, "bookings")) == 5_000


def test_bookings_are_not_restored_into_an_event_that_is_not_theirs(old: Daemon, new: Daemon) -> None:
    with old.connect() as there, new.connect() as here:
        there.ask("book 1 2 --booking mine")
        here.ask("create 'Event 1' 2027-03-01T20:00:00Z 5000 --id 1")
        done = ctl("import", "/dev/stdin", port=new.port, stdin=exported(old))
        assert done.returncode == 1
        assert done.stderr.startswith("ticketctl: event_exists: event 1 here is not as it was there")
        assert done.stdout == (
            "events: 1 created, 1 known already, refused: none\n"
            "bookings: 0 restored, 0 known already, refused: 1 event_exists\n"
            "tickets: 0 redeemed, 0 known already, refused: none\n"
        )
        assert here.ask("show 1")["available"] == 5_000
