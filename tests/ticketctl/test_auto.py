"""ticketctl auto: one command many times, and what came of it."""

import re
from typing import Any

import msgspec
import pytest

from tests.conftest import BREAK, SILENCE, answer, booked, ctl, ended, interrupt, lying, nobody, start_ctl, terminal
from tests.daemon import Daemon

SUMMARY = (
    r"(?P<requests>\d+) of (?P<wanted>\d+) requests in [0-9.]+ s: (?P<done>\d+) done, refused: (?P<refused>.*), "
    r"outcome unknown: (?P<unknown>\d+), tickets: (?P<tickets>\d+); [0-9.e+]+ requests/s, "
    r"p50 (?P<p50>[0-9.]+) ms, p99 (?P<p99>[0-9.]+) ms\n"
)


def summary(text: str) -> dict[str, str]:
    match = re.fullmatch(SUMMARY, text)
    assert match, text
    return match.groupdict()


def event_with(daemon: Daemon, capacity: int) -> str:
    with daemon.connect() as connection:
        event: str = connection.ask(f"create Event 2027-03-11T20:00:00Z {capacity}")["id"]
        return event


def show(daemon: Daemon, event: str) -> dict[str, Any]:
    with daemon.connect() as connection:
        return connection.ask(f"show {event}")


def test_auto_sells_every_ticket_and_counts_the_refusals(daemon: Daemon) -> None:
    event = event_with(daemon, 50)
    done = ctl("auto", "book", event, "1", "60", "0", port=daemon.port)
    assert (done.returncode, done.stderr) == (1, "")
    result = summary(done.stdout)
    assert (result["requests"], result["done"], result["refused"], result["tickets"]) == (
        "60",
        "50",
        "10 sold_out",
        "50",
    )
    assert 0 < float(result["p50"]) <= float(result["p99"])
    left = show(daemon, event)
    assert (left["available"], left["sold"]) == (0, 50)


def test_auto_reads_times_in_the_zone_of_the_person(daemon: Daemon) -> None:
    words = ["create", "Many", "2037-07-11 20:00", "5", "--id", "many", "2", "0"]
    done = ctl("auto", *words, port=daemon.port, env={"TICKETD_TIMEZONE": "Europe/Berlin"})
    assert summary(done.stdout)["done"] == "2"
    assert show(daemon, "many")["date"] == "2037-07-11T18:00:00Z"


def test_auto_counts_tickets_not_bookings(daemon: Daemon) -> None:
    event = event_with(daemon, 10)
    result = summary(ctl("auto", "book", event, "3", "3", "0", port=daemon.port).stdout)
    assert (result["done"], result["refused"], result["tickets"]) == ("3", "none", "9")


def test_auto_does_not_count_the_tickets_of_a_replay_again(daemon: Daemon) -> None:
    event = event_with(daemon, 10)
    result = summary(ctl("auto", "book", event, "3", "--booking", "once", "4", "0", port=daemon.port).stdout)
    assert (result["done"], result["tickets"]) == ("4", "3")
    assert show(daemon, event)["sold"] == 3


def test_auto_repeats_list_and_shows_only_the_summary(daemon: Daemon) -> None:
    done = ctl("auto", "list", "5", "0", port=daemon.port)
    assert (done.returncode, done.stderr) == (0, "")
    result = summary(done.stdout)
    assert (result["requests"], result["done"], result["refused"], result["tickets"]) == ("5", "5", "none", "0")


def test_auto_prints_its_summary_as_one_json_object(daemon: Daemon) -> None:
    done = ctl("auto", "book", "nope", "1", "2", "0", "--json", port=daemon.port)
    assert (done.returncode, done.stderr) == (1, "")
    result = msgspec.json.decode(done.stdout)
    assert (result["reply"], result["requests"], result["done"]) == ("auto", 2, 0)
    assert result["refused"] == {"event_not_found": 2}
    assert {"tickets", "seconds", "requests_per_second", "p50_ms", "p99_ms"} < set(result)


def test_auto_with_quiet_shows_no_summary(daemon: Daemon) -> None:
    done = ctl("-q", "auto", "ping", "2", "0", port=daemon.port)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_auto_book_uses_new_ids_and_one_connection() -> None:
    with lying(booked(), booked(), booked()) as liar:
        ctl("auto", "book", "1", "1", "3", "0", port=liar.port)
        sent = [liar.asked()["booking"] for _ in range(3)]
        assert not liar.asked_more()
    assert len(set(sent)) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "usage: auto"),
        (["list"], "usage: auto"),
        (["list", "5"], "usage: auto"),
        (["list", "0", "0"], "REQUESTS"),
        (["list", "-5", "0"], "REQUESTS"),
        (["list", "1_0", "0"], "REQUESTS"),
        (["list", "1000001", "0"], "REQUESTS"),
        (["list", "many", "0"], "REQUESTS"),
        (["list", "5", "-1"], "DELAY_MS"),
        (["list", "5", "0.5"], "DELAY_MS"),
        (["list", "5", "99999999999"], "DELAY_MS"),
        (["frob", "5", "0"], '"frob"'),
        (["watch", "5", "0"], "no end"),
        (["export", "events", "5", "0"], '"export"'),
        (["auto", "list", "5", "0", "5", "0"], '"auto"'),
        (["book", "1", "5", "0"], "quantity"),
        (["book", "1", "0", "5", "0"], "quantity must be"),
    ],
)
def test_wrong_usage_of_auto_exits_with_status_2_at_once(words: list[str], said: str) -> None:
    with nobody() as port:
        done = ctl("auto", *words, port=port)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("name", "words"), [("requests", ["0", "0"]), ("delay_ms", ["1", "-1"])])
def test_the_bounds_of_auto_are_those_that_help_shows(name: str, words: list[str]) -> None:
    bounds = re.search(rf"^  {name} .*; (a whole number from \d+ to \d+)$", ctl("help", "auto").stdout, re.MULTILINE)
    assert bounds
    assert f"{name.upper()} must be {bounds[1]}, not " in ctl("auto", "ping", *words).stderr


def test_auto_exits_with_the_status_of_the_last_failure() -> None:
    busy = answer("error", code="busy", message="full")
    with lying(busy, answer("pong")) as liar:
        done = ctl("auto", "ping", "2", "0", port=liar.port)
    assert done.returncode == 5
    result = summary(done.stdout)
    assert (result["done"], result["refused"]) == ("1", "1 busy")


def test_auto_without_a_daemon_exits_with_status_3() -> None:
    with nobody() as port:
        done = ctl("auto", "ping", "5", "0", port=port)
    assert done.returncode == 3
    assert done.stderr == f"ticketctl: cannot reach 127.0.0.1:{port} (connection refused). Is ticketd running?\n"
    assert summary(done.stdout)["requests"] == "0"


def test_auto_stops_at_an_unknown_outcome_with_status_4() -> None:
    with lying(booked(), BREAK, BREAK) as liar:
        done = ctl("auto", "book", "1", "1", "5", "0", port=liar.port)
        liar.asked()
        unsettled = liar.asked()["booking"]
    assert done.returncode == 4
    assert done.stderr.endswith(f"\n  ticketctl --port {liar.port} book 1 1 --booking {unsettled}\n")
    result = summary(done.stdout)
    assert (result["requests"], result["wanted"], result["done"], result["unknown"]) == ("1", "5", "1", "1")


def test_ctrl_c_ends_auto_with_the_summary_so_far() -> None:
    with lying(answer("pong"), answer("pong"), SILENCE) as liar:
        process = start_ctl("auto", "ping", "5", "0", port=liar.port)
        for _ in range(3):
            liar.asked()
        status, out, err = interrupt(process)
    assert (status, err) == (130, "")
    result = summary(out)
    assert (result["requests"], result["wanted"], result["done"], result["unknown"]) == ("2", "5", "2", "0")


def test_ctrl_c_during_auto_book_prints_how_to_settle_it() -> None:
    with lying(booked(quantity=2), SILENCE) as liar:
        process = start_ctl("auto", "book", "1", "2", "5", "0", port=liar.port)
        unsettled = [liar.asked()["booking"] for _ in range(2)][1]
        status, out, err = interrupt(process)
    assert status == 130
    assert err.endswith(f"\n  ticketctl --port {liar.port} book 1 2 --booking {unsettled}\n")
    result = summary(out)
    assert (result["done"], result["unknown"], result["tickets"]) == ("1", "1", "2")


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_terminal_shows_the_progress_and_summary_of_auto(daemon: Daemon) -> None:
    with terminal("auto", "ping", "3", "0", port=daemon.port) as screen:
        screen.expect(r"\d+%")
        status, shown = ended(screen)
    assert status == 0
    assert "3 requests in" in shown
