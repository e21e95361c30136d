"""What a watcher of a booking is promised: its place in line, its tickets, its end. A real daemon, on both ledgers."""

import re
import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Connection, Daemon, running, unasked, until, write_events
from tests.secured import plain, write_access

WATCHERS = 100
HEARTBEAT = {"reply": "pong", "heartbeat": True}


def news(watcher: Connection) -> dict[str, Any]:
    """Return the next line that is no heartbeat."""
    while (line := watcher.read()) == HEARTBEAT:
        pass
    return line


def ended(watcher: Connection) -> bool:
    """End a watch by another line, and return whether that was answered."""
    watcher.send(b"ping\n")
    return news(watcher) == {"reply": "pong"}


def stage(line: dict[str, Any]) -> tuple[str, int | None]:
    return line["state"], line.get("position")


@pytest.fixture
def event(sale: Daemon, request: pytest.FixtureRequest) -> str:
    """An event with two tickets, both held by the booking ``EVENT-hold``."""
    event = re.sub("[^a-z]+", "-", request.node.name)[-40:]
    with sale.connect() as seller:
        assert seller.ask(f"create Jazz 2037-03-11T20:00:00Z 2 --id {event}")["available"] == 2
        assert seller.ask(f"hold {event} 2 --booking {event}-hold")["state"] == "held"
    return event


def test_a_watcher_sees_its_place_its_tickets_and_the_end(sale: Daemon, event: str) -> None:
    with sale.connect() as seller, sale.connect() as watcher:
        for name in "abc":
            assert seller.ask(f"wait {event} 1 --seconds 60 --booking {event}-{name}")["state"] == "waiting"
        first = watcher.ask(f"watch --booking {event}-c")
        assert first == seller.ask(f"show {event}-c")
        assert stage(first) == ("waiting", 3)
        seller.ask(f"release {event}-a")
        assert stage(news(watcher)) == ("waiting", 2)
        seller.ask(f"release {event}-hold")
        held = news(watcher)
        assert held == seller.ask(f"show {event}-c")
        assert stage(held) == ("held", None)
        seller.ask(f"extend {event}-c 400")
        longer = news(watcher)
        assert longer["expires"] > held["expires"]
        sold = seller.ask(f"confirm {event}-c")
        over = news(watcher)
        assert (over["state"], over["tickets"]) == ("confirmed", sold["tickets"])
        # The stream goes on, and the next line ends it.
        assert seller.ask("stats")["watchers"] == 1
        assert ended(watcher)
        assert seller.ask("stats")["watchers"] == 0


@pytest.mark.parametrize("end", ["release", "expire", "leave"])
def test_a_watcher_sees_every_end(sale: Daemon, event: str, end: str) -> None:
    with sale.connect() as seller, sale.connect() as watcher:
        booking = f"{event}-{end}"
        if end == "expire":
            assert seller.ask(f"release {event}-hold")["state"] == "released"
            assert seller.ask(f"wait {event} 2 --seconds 1 --booking {booking}")["state"] == "held"
        else:
            assert seller.ask(f"wait {event} 1 --seconds 60 --booking {booking}")["state"] == "waiting"
        watcher.ask(f"watch --booking {booking}")
        if end == "release":
            assert seller.ask(f"release {event}-hold")["state"] == "released"
            assert news(watcher)["state"] == "held"
        if end != "expire":
            seller.ask(f"release {booking}")
        over = news(watcher)
        assert over["state"] == ("expired" if end == "expire" else "released")
        assert over["changes"][-1]["what"] == end
    with sale.connect() as late:
        assert late.ask(f"watch --booking {booking}") == over
        assert ended(late)


def test_what_cannot_be_watched_is_refused_and_all_goes_on(sale: Daemon, event: str) -> None:
    with sale.connect() as watcher, sale.connect() as other:
        refusal = watcher.ask("watch --booking nope")
        assert (refusal["code"], refusal["message"]) == ("booking_not_found", "there is no booking nope")
        assert watcher.ask(f"watch {event} --booking {event}-hold")["code"] == "bad_request"
        assert watcher.ask('{"cmd":"watch","booking":"nope","tag":"t"}')["tag"] == "t"
        assert other.ask("stats")["watchers"] == 0
        assert watcher.ask(f"watch --booking {event}-hold")["state"] == "held"


def test_a_watch_sees_what_was_sent_before_it(sale: Daemon, event: str) -> None:
    with sale.connect() as watcher:
        watch = f'{{"cmd":"watch","booking":"{event}-w","tag":"w"}}'
        watcher.send(f"wait {event} 1 --seconds 60 --booking {event}-w\n{watch}\n".encode())
        assert stage(watcher.read()) == ("waiting", 1)
        shown = watcher.read()
        assert (*stage(shown), shown["tag"]) == ("waiting", 1, "w")
        watcher.send(f"release {event}-w\n".encode())
        assert watcher.read()["state"] == "released"
        # Watches sent together end one another; each has its first line.
        watcher.send(f"watch --booking {event}-w\nwatch {event}\nwatch --booking {event}-hold\n".encode())
        assert [watcher.read()["id"] for _ in range(3)] == [f"{event}-w", event, f"{event}-hold"]
        with sale.connect() as other:
            assert other.ask("stats")["watchers"] == 1
            other.ask(f"release {event}-hold")
        assert news(watcher)["state"] == "released"


def test_every_watcher_of_a_line_gets_its_places(sale: Daemon, event: str) -> None:
    with ExitStack() as stack:
        seller = stack.enter_context(sale.connect())
        watchers = [stack.enter_context(sale.connect()) for _ in range(WATCHERS)]
        for place, watcher in enumerate(watchers, 1):
            booking = f"{event}-{place}"
            watcher.send(f"wait {event} 1 --seconds 60 --booking {booking}\nwatch --booking {booking}\n".encode())
            assert [stage(watcher.read()) for _ in range(2)] == [("waiting", place)] * 2
        assert seller.ask("stats")["watchers"] == WATCHERS
        seller.send(f"release {event}-hold\nrelease {event}-50\n".encode())
        assert [seller.read()["state"] for _ in range(2)] == ["released", "released"]
        for place, watcher in enumerate(watchers, 1):
            # The first two have their tickets, one has left, and those behind them move up, in a line or two.
            left = place - 2 - (place > 50)
            end = ("held", None) if place <= 2 else ("released", None) if place == 50 else ("waiting", left)
            while (told := stage(news(watcher))) != end:
                assert told == ("waiting", place - 2)


def test_a_booking_may_have_many_watchers(sale: Daemon, event: str) -> None:
    with ExitStack() as stack:
        watchers = [stack.enter_context(sale.connect()) for _ in range(70)]
        for watcher in watchers:
            assert watcher.ask(f"watch --booking {event}-hold")["state"] == "held"
        assert ended(watchers[0])
        with sale.connect() as seller:
            seller.ask(f"release {event}-hold")
        assert {news(watcher)["state"] for watcher in watchers[1:]} == {"released"}
        assert ended(watchers[0])


def test_watchers_of_bookings_have_no_idle_timeout_and_a_drain(tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with running(tmp_path, "--idle-seconds-max", "0.3") as daemon, daemon.connect() as watcher:
        with daemon.connect() as seller:
            seller.ask("hold 1 1 --booking b")
            watcher.ask("watch --booking b")
            assert unasked(seller.read()) == "idle_timeout"
        with daemon.connect() as seller:
            seller.ask("extend b 900")
        assert news(watcher)["state"] == "held"
        assert daemon.end(signal.SIGTERM) == 0
        assert unasked(watcher.read()) == "shutting_down"
        assert watcher.rest() == b""


def test_a_watcher_of_a_booking_that_is_gone_is_forgotten(sale: Daemon, event: str) -> None:
    with sale.connect() as seller:
        for leave in (Connection.close, Connection.reset):
            watcher = sale.connect()
            watcher.ask(f"watch --booking {event}-hold")
            assert seller.ask("stats")["watchers"] == 1
            leave(watcher)
            until(lambda: seller.ask("stats")["watchers"] == 0)


def test_only_managers_see_names_in_what_they_watch(tmp_path: Path) -> None:
    write_events(tmp_path, 1)
    with running(tmp_path, "--access", write_access(tmp_path / "access.json")) as daemon, ExitStack() as stack:
        by = {name: stack.enter_context(plain(daemon)) for name in ("seller", "door", "manager", "admin")}
        seller = stack.enter_context(plain(daemon))
        seller.auth("seller")
        seller.ask("hold 1 1 --booking b")
        for name, watcher in by.items():
            watcher.auth(name)
            assert watcher.ask("watch --booking b").get("by") == ("seller" if name in ("manager", "admin") else None)
        seller.ask("confirm b")
        for name, watcher in by.items():
            told = news(watcher)
            names = [told.get("by"), *(change.get("by") for change in told["changes"])]
            assert names == (["seller"] * 2 if name in ("manager", "admin") else [None] * 2)


def test_watchers_of_bookings_that_do_not_read_cost_others_nothing(tmp_path: Path) -> None:
    write_events(tmp_path, 10_000)
    with running(tmp_path, "--write-seconds-max", "0.5") as daemon, ExitStack() as stack:
        seller = stack.enter_context(daemon.connect())
        # The largest line that there is, so often that it cannot all be on its way.
        seller.send(b"hold 1 1000 --booking big\nconfirm big\nhold 1 1 --booking b\n")
        assert [seller.read()["state"] for _ in range(3)] == ["held", "confirmed", "held"]
        for _ in range(10):
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            deaf.connect(("127.0.0.1", daemon.port))
            deaf.sendall(b"watch --booking big\n" * 200 + b"watch --booking b\n")
        reader = stack.enter_context(daemon.connect())
        assert reader.ask("watch --booking b")["state"] == "held"
        seller.ask("confirm b")
        assert news(reader)["state"] == "confirmed"
        until(lambda: seller.ask("stats")["connections"] == 2)
