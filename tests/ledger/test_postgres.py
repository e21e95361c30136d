"""Many daemons on one PostgreSQL: each sells from the same ledger, and what happens to one does not stop the others."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import msgspec

from tests.daemon import Connection, Daemon, running, until, write_events
from tests.postgres import Postgres, query

DATE = "2027-03-11T20:00:00Z"


@contextmanager
def daemons(folder: Path, database: str, number: int, *arguments: str) -> Iterator[list[Daemon]]:
    """Run so many daemons on one ledger."""
    with ExitStack() as stack:
        yield [stack.enter_context(running(folder, "--ledger", database, *arguments)) for _ in range(number)]


# Together


def test_two_daemons_selling_one_event_see_each_others_sales(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 21)
    with daemons(tmp_path, database, 2) as pair, ExitStack() as stack:
        here, there = (stack.enter_context(daemon.connect()) for daemon in pair)
        for turn in range(1, 11):
            for buyer, version in ((here, 2 * turn - 1), (there, 2 * turn)):
                booked = buyer.ask(f"book 1 1 --booking b{version}")
                assert (booked["available"], booked["version"], "replayed" in booked) == (21 - version, version, False)
                assert buyer.ask(f"show b{version}") == booked
        assert here.ask("book 1 2")["code"] == "sold_out"
        # What the other has just sold is not sold again, under whatever id it is asked for.
        assert there.ask("book 1 1 --booking b21")["available"] == 0
        assert here.ask("book 1 1")["code"] == "sold_out"
        assert here.ask("book 1 1 --booking b20") | {"replayed": True} == there.ask("book 1 1 --booking b20")
        assert here.ask("book 1 2 --booking b1")["code"] == "booking_conflict"


def test_ten_daemons_starting_at_once_create_one_ledger(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100, 200)
    with ThreadPoolExecutor(10) as threads, ExitStack() as stack:
        started = [
            threads.submit(lambda: stack.enter_context(running(tmp_path, "--ledger", database))) for _ in range(10)
        ]
        for number, daemon in enumerate(start.result() for start in started):
            with daemon.connect() as connection:
                assert connection.ask("book 1 1")["version"] == number + 1
                assert [event["id"] for event in connection.ask("list")["events"]] == ["1", "2"]


def test_sales_of_one_daemon_reach_lists_and_watchers_of_others(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with daemons(tmp_path, database, 2) as (here, there), here.connect() as seller, there.connect() as reader:
        with there.connect() as watcher:
            assert watcher.ask("watch")["version"] == 0
            assert seller.ask("book 1 3 --booking mine")["version"] == 1
            # Who sold it sees it at once, and the others a moment later.
            assert seller.ask("list")["events"][0]["available"] == 97
            assert watcher.read()["available"] == 97
        assert reader.ask("list")["events"][0]["available"] == 97
        assert seller.ask(f"create Jazz {DATE} 10 --id jazz")["available"] == 10
        until(lambda: len(reader.ask("list")["events"]) == 2)


def test_an_event_read_after_a_booking_counts_that_booking(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100, 100, 100)
    with daemons(tmp_path, database, 2) as (here, there), here.connect() as seller, there.connect() as reader:
        for event, ask in enumerate(("show b1", "book 2 1 --booking b2", "bookings --after b2"), 1):
            booked = seller.ask(f"book {event} 1 --booking b{event}")
            reply = reader.ask(ask)
            assert reply["reply"] != "error"
            assert booked["tickets"][0] in str(reply)
            assert reader.ask(f"show {event}")["version"] == 1


def test_a_booking_sent_to_two_daemons_at_once_is_made_once(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 1_000, 1_000)

    def book(daemon: Daemon) -> list[tuple[str, ...]]:
        with daemon.connect() as connection:
            connection.send(b"".join(b"book %d 1 --booking b%d\n" % (1 + number % 2, number) for number in range(500)))
            return [tuple(connection.read()["tickets"]) for _ in range(500)]

    with daemons(tmp_path, database, 2) as (here, there), ThreadPoolExecutor(2) as threads:
        bookings = list(threads.map(book, (here, there)))
        assert bookings[0] == bookings[1]
        with here.connect() as connection:
            assert [connection.ask(f"show {event}")["sold"] for event in (1, 2)] == [250, 250]


def test_a_hold_expires_by_the_database_clock_without_its_daemon(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with daemons(tmp_path, database, 2) as (here, there), there.connect() as watcher:
        assert watcher.ask("watch")["version"] == 0
        with here.connect() as holder:
            assert holder.ask("hold 1 4 --seconds 1")["available"] == 96
        here.kill()
        assert watcher.read()["held"] == 4
        event = watcher.read()
        assert (event["available"], event["held"], event["version"]) == (100, 0, 2)


def test_who_waits_at_a_daemon_that_dies_is_served_by_another(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 2)
    with daemons(tmp_path, database, 2) as (here, there), there.connect() as other:
        assert other.ask("hold 1 2 --seconds 1")["available"] == 0
        with here.connect() as waiter:
            assert waiter.ask("wait 1 2 --booking w1 --seconds 1")["position"] == 1
            assert waiter.ask("wait 1 1 --booking w2")["position"] == 2
        here.kill()
        # Nobody asks for anything: the hold runs out, and then the offer.
        state = "SELECT state FROM ticketd.bookings WHERE id = 'w2'"
        until(lambda: query(database, state)[0][0] == "held")
        assert [change["what"] for change in other.ask("show w1")["changes"]] == ["offer", "expire"]
        assert other.ask("book 1 1")["state"] == "confirmed"
        assert other.ask("confirm w2")["available"] == 0


def shows_version(connection: Connection, version: int) -> bool:
    return bool(connection.ask("show 1")["version"] == version)


def test_a_hold_that_another_daemon_ended_is_not_confirmed(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 10)
    with daemons(tmp_path, database, 2) as (here, there), here.connect() as holder, there.connect() as other:
        for turn in range(5):
            assert holder.ask(f"hold 1 1 --booking h{turn}")["state"] == "held"
            ended = other.ask(f"{('release', 'confirm')[turn % 2]} h{turn}")
            until(partial(shows_version, holder, ended["version"]))
            answer = holder.ask(f"confirm h{turn}")
            assert answer.get("code") == "already_released" or answer == ended | {"replayed": True}


def test_a_daemon_frozen_among_commits_does_not_stop_others(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100_000)
    with daemons(tmp_path, database, 2) as (here, there), there.connect() as buyer, ExitStack() as stack:
        for turn in range(5):
            crowd = [stack.enter_context(here.connect()) for _ in range(5)]
            for connection in crowd:
                connection.send(b"hold 1 1\n" * 200)
            crowd[0].read()
            here.process.send_signal(signal.SIGSTOP)
            assert buyer.ask(f"book 1 1 --booking b{turn}")["state"] == "confirmed"
            here.process.send_signal(signal.SIGCONT)
        with here.connect() as connection:
            assert connection.ask("book 1 1 --booking b0")["replayed"]


# What an operator does to the database


def test_an_event_that_is_deleted_by_sql_leaves_lists(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100, 200)
    with running(tmp_path, "--ledger", database) as daemon, daemon.connect() as reader:
        assert [event["id"] for event in reader.ask("list")["events"]] == ["1", "2"]
        (tmp_path / "events.json").unlink()
        query(database, "DELETE FROM ticketd.events WHERE id = '1'")
        until(lambda: [event["id"] for event in reader.ask("list")["events"]] == ["2"])
        assert reader.ask("book 1 1")["code"] == "event_not_found"
        assert reader.ask(f"create Again {DATE} 5 --id 1")["available"] == 5
        assert [event["id"] for event in reader.ask("list")["events"]] == ["2", "1"]


def test_a_schema_that_becomes_newer_ends_a_daemon(database: str, tmp_path: Path) -> None:
    with running(tmp_path, "--ledger", database) as daemon:
        query(database, "UPDATE ticketd.ledger SET schema_version = 99")
        assert daemon.wait() == 5
        assert "has schema 99 now" in "\n".join(daemon.lines)


# events.json


def test_the_events_file_is_written_only_if_it_is_named(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    before = (tmp_path / "events.json").read_bytes()
    daemon = Daemon("--port", "0", "--ledger", database, cwd=tmp_path)
    try:
        daemon.wait_ready()
        with daemon.connect() as connection:
            assert connection.ask("book 1 1")["available"] == 99
        assert daemon.end() == 0
    finally:
        daemon.kill()
    assert (tmp_path / "events.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["events.json"]
    with running(tmp_path, "--ledger", database) as named:
        named.end()
    assert msgspec.json.decode((tmp_path / "events.json").read_bytes())["events"][0]["AvailableTickets"] == 99


# When the database is away


def test_requests_wait_while_the_database_restarts(bundled_postgres: Postgres, tmp_path: Path) -> None:
    database = bundled_postgres.new_database()
    write_events(tmp_path, 100)
    with running(tmp_path, "--ledger", database) as daemon, daemon.connect() as buyer, daemon.connect() as reader:
        assert buyer.ask("book 1 1")["version"] == 1
        bundled_postgres.stop("immediate")
        try:
            buyer.send(b"book 1 2 --booking mine\n")
            daemon.wait_line("requests wait: cannot reach the database")
            # What is committed can be read meanwhile.
            assert reader.ask("list")["events"][0]["available"] == 99
        finally:
            bundled_postgres.start()
        booked = buyer.read()
        assert (booked["state"], booked["version"], booked.get("replayed")) == ("confirmed", 2, None)
        daemon.wait_line("the ledger is back")
    bundled_postgres.give_back(database)


def test_a_long_database_outage_answers_busy_and_does_nothing(bundled_postgres: Postgres, tmp_path: Path) -> None:
    database = bundled_postgres.new_database()
    write_events(tmp_path, 100)
    with running(tmp_path, "--ledger", database, "--queue-seconds-max", "0.5") as daemon, daemon.connect() as buyer:
        bundled_postgres.stop("fast")
        try:
            refusal = buyer.ask("book 1 2 --booking mine")
            assert (refusal["code"], refusal["retry_after"]) == ("busy", 1)
            assert refusal["message"] == "the ledger cannot be reached; nothing was done, try again"
            assert buyer.ask("hold 1 2")["code"] == "busy"
        finally:
            bundled_postgres.start()
        assert buyer.ask("book 1 2 --booking mine")["version"] == 1
        away = [line for line in daemon.lines if "requests wait" in line]
        assert len(away) == len(set(away)), "each reason is logged once"
        assert daemon.end() == 0
    bundled_postgres.give_back(database)


def test_a_daemon_shuts_down_cleanly_without_its_database(bundled_postgres: Postgres, tmp_path: Path) -> None:
    database = bundled_postgres.new_database()
    write_events(tmp_path, 100)
    with running(tmp_path, "--ledger", database) as daemon:
        bundled_postgres.stop("fast")
        try:
            assert daemon.end() == 0
        finally:
            bundled_postgres.start()
    bundled_postgres.give_back(database)
