"""Many daemons on one PostgreSQL: each sells from the same ledger, and what happens to one does not stop the others."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import msgspec
import pytest

from tests.conftest import SECONDS_MAX
from tests.daemon import Daemon, running, until, write_events
from tests.ledgers import PostgresLedger
from tests.postgres import Postgres, Server, name_of, query
from ticketd.box_office import BoxOffice
from ticketd.catalogue import Catalogue
from ticketd.config import Limits
from ticketd.protocol import Book, BookingReply, Confirm, Create, EventReply, Hold, Show
from ticketd.stores.base import EPOCH
from ticketd.stores.postgres import PostgresStore

DATE = "2027-03-11T20:00:00Z"


@contextmanager
def daemons(folder: Path, database: str, number: int, *arguments: str) -> Iterator[list[Daemon]]:
    """Run so many daemons on one ledger."""
    with ExitStack() as stack:
        yield [stack.enter_context(running(folder, "--store", database, *arguments)) for _ in range(number)]


def failed(*arguments: str) -> tuple[int, str]:
    """Return exit status and last line of a daemon that cannot start."""
    daemon = Daemon("--port", "0", *arguments)
    return daemon.wait(), daemon.lines[-1]


# What it refuses


def test_a_database_that_would_lose_sales_is_refused(tmp_path: Path) -> None:
    for settings in ({"fsync": "off"}, {"full_page_writes": "off"}):
        with Postgres(None, **settings) as careless:
            status, line = failed("--store", careless.new_database(), "--events", str(tmp_path / "events.json"))
        assert (status, f"({next(iter(settings))} is off)" in line) == (5, True), line


def test_a_standby_is_refused_and_the_line_says_where_to_go(bundled_postgres: Postgres, tmp_path: Path) -> None:
    with Postgres(standby_of=bundled_postgres) as standby:
        status, line = failed("--store", standby.url("postgres"), "--events", str(tmp_path / "events.json"))
    assert (status, "is a standby" in line, "primary" in line) == (5, True, True), line


def test_a_ledger_of_a_newer_ticketd_is_refused_and_left_alone(database: str, tmp_path: Path) -> None:
    with running(tmp_path, "--store", database) as daemon:
        daemon.end()
    query(database, "UPDATE ticketd.ledger SET schema_version = 99")
    status, line = failed("--store", database, "--events", str(tmp_path / "events.json"))
    assert (status, "schema 99" in line, "start a newer ticketd" in line) == (5, True, True), line
    assert query(database, "SELECT schema_version FROM ticketd.ledger")[0][0] == 99


def test_a_database_without_all_letters_is_refused(postgres: Server, tmp_path: Path) -> None:
    query(postgres.url("postgres"), "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    try:
        status, line = failed("--store", postgres.url("latin"), "--events", str(tmp_path / "events.json"))
    finally:
        postgres.drop(postgres.url("latin"))
    assert (status, "make a database in UTF8" in line) == (5, True), line


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (
            "postgresql://nobody:secret@127.0.0.1:1/db",
            "cannot reach the database 127.0.0.1:1/db (connection refused). Is",
        ),
        ("postgresql://nobody:secret@host.invalid/db", "cannot reach the database host.invalid/db"),
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_the_password(url: str, why: str, tmp_path: Path) -> None:
    status, line = failed("--store", url, "--events", str(tmp_path / "events.json"))
    assert (status, why in line, "secret" in line) == (5, True, False), line


def test_a_database_that_does_not_exist_is_named(postgres: Server, tmp_path: Path) -> None:
    status, line = failed("--store", postgres.url("not_there"), "--events", str(tmp_path / "events.json"))
    assert (status, 'database "not_there" does not exist' in line) == (5, True), line


def test_without_the_driver_the_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "asyncpg.py").write_text("raise ModuleNotFoundError(name='asyncpg')")
    paths = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"}
    daemon = Daemon("--port", "0", "--store", "postgresql://127.0.0.1/db", env=paths, cwd=tmp_path)
    assert (daemon.wait(), daemon.lines) == (
        5,
        ["ticketd: asyncpg is missing, which it takes to sell from PostgreSQL: pip install asyncpg"],
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://sales:sec/ret@127.0.0.1:5432/db",
        "postgresql://sales:12/sec#ret@127.0.0.1:5432/db",
        "postgresql://sales:sec?ret@127.0.0.1/db",
        "postgresql:/sales:secret@127.0.0.1/db",
    ],
)
def test_a_url_that_is_written_wrongly_is_refused_without_showing_what_may_be_the_password(url: str) -> None:
    for daemon in (Daemon("--store", url), Daemon(env={"TICKETD_STORE": url})):
        assert daemon.wait() == 2
        assert "is no URL of a database; it is postgresql://user:password@" in daemon.lines[-1]
        assert not any("sec" in line or "ret" in line for line in daemon.lines)


def test_an_empty_store_is_not_taken_for_none() -> None:
    for daemon in (Daemon("--store", ""), Daemon(env={"TICKETD_STORE": ""})):
        assert (daemon.wait(), "is empty" in daemon.lines[-1]) == (2, True)


# Together


def test_daemons_that_sell_the_same_event_by_turns_tell_of_each_other(database: str, tmp_path: Path) -> None:
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


def test_ten_daemons_that_start_at_once_on_an_empty_database_make_one_ledger(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100, 200)
    with ThreadPoolExecutor(10) as threads, ExitStack() as stack:
        started = [
            threads.submit(lambda: stack.enter_context(running(tmp_path, "--store", database))) for _ in range(10)
        ]
        for number, daemon in enumerate(start.result() for start in started):
            with daemon.connect() as connection:
                assert connection.ask("book 1 1")["version"] == number + 1
                assert [event["id"] for event in connection.ask("list")["events"]] == ["1", "2"]


def test_what_one_daemon_sells_the_others_list_and_tell_their_watchers(database: str, tmp_path: Path) -> None:
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


def test_whoever_has_seen_a_booking_sees_its_event_so_that_it_counts_it(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100, 100, 100, 100)
    with daemons(tmp_path, database, 2) as (here, there), here.connect() as seller, there.connect() as reader:
        for event, ask in enumerate(("show b1", "book 2 1 --booking b2", "bookings --after b2", "tickets"), 1):
            booked = seller.ask(f"book {event} 1 --booking b{event}")
            reply = reader.ask(ask)
            assert reply["reply"] != "error"
            assert booked["tickets"][0] in str(reply)
            assert reader.ask(f"show {event}")["version"] == 1


def test_the_same_booking_asked_of_two_daemons_at_once_is_made_once(database: str, tmp_path: Path) -> None:
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


def test_a_hold_runs_out_by_the_clock_of_the_database_though_its_daemon_is_gone(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    with daemons(tmp_path, database, 2) as (here, there), there.connect() as watcher:
        assert watcher.ask("watch")["version"] == 0
        with here.connect() as holder:
            assert holder.ask("hold 1 4 --seconds 1")["available"] == 96
        here.kill()
        assert watcher.read()["held"] == 4
        event = watcher.read()
        assert (event["available"], event["held"], event["version"]) == (100, 0, 2)


def test_a_daemon_that_freezes_in_a_transaction_does_not_stop_the_others(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100_000)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND state = 'idle in transaction'"
    with daemons(tmp_path, database, 2) as (here, there), there.connect() as buyer, ExitStack() as stack:
        # Frozen again and again, until it is within a transaction. A hold takes several statements.
        while True:
            crowd = [stack.enter_context(here.connect()) for _ in range(5)]
            for connection in crowd:
                connection.send(b"hold 1 1\n" * 200)
            crowd[0].read()
            here.process.send_signal(signal.SIGSTOP)
            if query(database, waiting, name_of(database))[0][0]:
                break
            here.process.send_signal(signal.SIGCONT)
        assert buyer.ask("book 1 1 --booking mine")["state"] == "confirmed"
        here.process.send_signal(signal.SIGCONT)
        with here.connect() as connection:
            assert connection.ask("book 1 1 --booking mine")["replayed"]


# events.json


def test_the_events_file_is_only_read_unless_it_is_named(database: str, tmp_path: Path) -> None:
    write_events(tmp_path, 100)
    before = (tmp_path / "events.json").read_bytes()
    daemon = Daemon("--port", "0", "--store", database, cwd=tmp_path)
    try:
        daemon.wait_ready()
        with daemon.connect() as connection:
            assert connection.ask("book 1 1")["available"] == 99
        assert daemon.end() == 0
    finally:
        daemon.kill()
    assert (tmp_path / "events.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["events.json"]
    with running(tmp_path, "--store", database) as named:
        named.end()
    assert msgspec.json.decode((tmp_path / "events.json").read_bytes())["events"][0]["AvailableTickets"] == 99


# When the database is away


def test_while_the_database_restarts_requests_wait_and_are_done(bundled_postgres: Postgres, tmp_path: Path) -> None:
    database = bundled_postgres.new_database()
    write_events(tmp_path, 100)
    with running(tmp_path, "--store", database) as daemon, daemon.connect() as buyer, daemon.connect() as reader:
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
    bundled_postgres.drop(database)


def test_when_the_database_stays_away_requests_are_told_that_nothing_was_done(
    bundled_postgres: Postgres, tmp_path: Path
) -> None:
    database = bundled_postgres.new_database()
    write_events(tmp_path, 100)
    with running(tmp_path, "--store", database, "--desk-seconds-max", "0.5") as daemon, daemon.connect() as buyer:
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
        assert len(away) == len(set(away)), "each reason is told once"
        assert daemon.end() == 0
    bundled_postgres.drop(database)


def test_a_daemon_ends_in_good_order_without_its_database(bundled_postgres: Postgres, tmp_path: Path) -> None:
    database = bundled_postgres.new_database()
    write_events(tmp_path, 100)
    with running(tmp_path, "--store", database) as daemon:
        bundled_postgres.stop("fast")
        try:
            assert daemon.end() == 0
        finally:
            bundled_postgres.start()
    bundled_postgres.drop(database)


# In one batch


@asynccontextmanager
async def selling(database: str, *events: str) -> AsyncIterator[tuple[BoxOffice, PostgresStore]]:
    """Sell from a store in this process."""
    store = await PostgresLedger(database).open()
    assert isinstance(store, PostgresStore)
    box_office = BoxOffice(store, Catalogue([]), Limits())
    selling = asyncio.create_task(box_office.run())
    for event in events:
        await box_office.submit([Create("Jazz", datetime(2027, 3, 11, tzinfo=UTC), 100, event)], "test")
    try:
        yield box_office, store
    finally:
        box_office.close()
        await selling
        await store.close()


async def until_somebody_waits_for_a_lock(other: asyncpg.Connection) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass


async def test_who_comes_while_others_have_the_event_joins_the_batch(database: str) -> None:
    other = await asyncpg.connect(database)
    async with selling(database, "jazz") as (box_office, _):
        commits = box_office.counts.commits
        async with other.transaction():
            await other.execute("SELECT FROM ticketd.events FOR UPDATE")
            # Not a sale, which is one statement.
            first = box_office.submit([Hold("jazz", 1, 60)], "first")
            await until_somebody_waits_for_a_lock(other)
            more = [box_office.submit([Book("jazz", 1), Hold("jazz", 1, 60)], "others") for _ in range(20)]
            late = box_office.submit([Book("jazz", 1), Show("jazz")], "last")
        replies = [reply for future in (first, *more, late) for reply in await future]
        versions = [reply.version for reply in replies if isinstance(reply, BookingReply | EventReply)]
        assert versions == [*range(1, 43), 42]
        assert box_office.counts.commits == commits + 2
    await other.close()


async def test_events_that_somebody_has_locked_do_not_stop_the_others(database: str) -> None:
    other = await asyncpg.connect(database)
    async with selling(database, "1", "2", "3", "4", "5") as (box_office, _):
        async with other.transaction():
            await other.execute("SELECT FROM ticketd.events WHERE id < '5' FOR UPDATE")
            locked = [box_office.submit([Book(event, 1)], event) for event in "1234" for _ in range(5)]
            free = [box_office.submit([Book("5", 1)], "5") for _ in range(5)]
            replies = [reply for future in free for reply in await future]
            assert not any(future.done() for future in locked)
        replies += [reply for future in locked for reply in await future]
        assert all(isinstance(reply, BookingReply) for reply in replies)
    await other.close()


async def test_holds_that_ran_out_at_a_locked_event_do_not_stop_the_others(database: str) -> None:
    other = await asyncpg.connect(database)
    async with selling(database, "held", "free") as (box_office, store):
        await box_office.submit([Hold("held", 1, 60)], "test")
        await other.execute("UPDATE ticketd.bookings SET expires = now() - interval '1 second'")
        async with other.transaction():
            await other.execute("SELECT FROM ticketd.events WHERE id = 'held' FOR UPDATE")
            store.next_expiry = EPOCH
            async with asyncio.timeout(SECONDS_MAX):
                [booked] = await box_office.submit([Book("free", 1)], "test")
            assert isinstance(booked, BookingReply)
    await other.close()


async def test_a_booking_that_comes_up_while_the_events_are_locked_is_found(database: str) -> None:
    other = await asyncpg.connect(database)
    async with selling(database, "jazz", "blues") as (box_office, _):
        async with other.transaction():
            await other.execute("SELECT FROM ticketd.events WHERE id = 'jazz' FOR UPDATE")
            replies = box_office.submit([Confirm("mine"), Book("jazz", 1)], "test")
            await until_somebody_waits_for_a_lock(other)
            await other.execute("UPDATE ticketd.events SET available = 99, held = 1, version = 1 WHERE id = 'blues'")
            await other.execute(
                "INSERT INTO ticketd.bookings (id, event, quantity, state, tickets, available, version, seconds,"
                " expires) VALUES ('mine', 'blues', 1, 'held', '', 99, 1, 60, now() + interval '1 minute')"
            )
        async with asyncio.timeout(SECONDS_MAX):
            confirmed, booked = await replies
        assert isinstance(confirmed, BookingReply)
        assert isinstance(booked, BookingReply)
        assert (confirmed.event, confirmed.version, booked.event, booked.version) == ("blues", 2, "jazz", 1)
    await other.close()


async def test_what_was_begun_before_a_look_and_committed_after_it_is_seen_by_the_next(database: str) -> None:
    other = await asyncpg.connect(database)
    async with selling(database, "slow", "fast") as (box_office, store):
        async with other.transaction():
            change = "UPDATE ticketd.events SET version = 7, changed = pg_current_xact_id() WHERE id = 'slow'"
            await other.execute(change)
            await box_office.submit([Book("fast", 1)], "test")
            assert {event.id: event.version for event in await store.news()}["slow"] == 0
            assert {event.id: event.version for event in await store.news()}.get("slow", 0) == 0
        assert {event.id: event.version for event in await store.news()}["slow"] == 7
    await other.close()
