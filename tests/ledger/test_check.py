"""``ticketd check``: a whole sale is called whole, every kind of damage in its rows is found and named."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import running, write_events
from tests.faults.proxy import Fault, Proxy
from tests.ledger.sale import change, make_sale, quiet, rows_in, ticketd
from tests.postgres import Server, query
from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.check import check
from ticketd.ledger.move import move
from ticketd.ledger.postgres.url import public_name
from ticketd.ledger.rows import TABLES

SALE = [
    "events: 3; in each, sold + held + available = capacity",
    "bookings: 10 (1 cancelled, 6 confirmed, 1 expired, 1 held, 1 released);"
    " each has an event, and the state that its changes led to",
    "tickets: 1,015 (3 cancelled, 2 redeemed, 1,010 valid); as many as were sold, and each that was redeemed was valid",
    "whole",
]
TICKETS = "UPDATE {}bookings SET tickets = '%s' WHERE id = 'sold-out'"
CHANGES = "UPDATE {}bookings SET changes = '%s' WHERE id = '%s'"
# What is done to a ledger of either kind, and what is said of it. T1, T2 and T3 are the tickets of sold-out, C1 is the
# one that was cancelled of cancelled-in-part. A1, which was A0 until it was reissued, and A2 are those of annulled.
DAMAGES = {
    "a ticket is missing": (
        TICKETS % '["T1","T2"]',
        [r"event blues: 3 are sold here by its count, and 2 by the tickets of its bookings$",
         r"booking sold-out of event blues: it is confirmed and has 2 tickets, not 3$"],
    ),
    "a ticket is there twice": (
        TICKETS % '["T1","T2","T2"]',
        [r"event blues: 3 are sold here by its count, and 2 by the tickets of its bookings$",
         r"booking sold-out of event blues: it has a ticket twice$"],
    ),
    "a ticket is one too many": (
        TICKETS % '["T1","T2","T3","0123456789ab"]',
        [r"event blues: 3 are sold here by its count, and 4 by the tickets of its bookings$",
         r"booking sold-out of event blues: it is confirmed and has 4 tickets, not 3$"],
    ),
    "a ticket is cut": (
        TICKETS % '["T1","T2","0123"]',
        [r"booking sold-out of event blues: its ticket 0123 is too short or too long$"],
    ),
    "tickets that cannot be read": (
        TICKETS % '"T1"',
        [r"booking sold-out of event blues: it cannot be read: ",
         r"event blues: 3 are sold here by its count, and 0 by the tickets of its bookings$"],
    ),
    "a held booking has tickets": (
        "UPDATE {}bookings SET tickets = '[\"0123456789ab\"]' WHERE id = 'held'",
        [r"booking held of event jazz: it is held and has 1 tickets, not 0$"],
    ),
    "a ticket is cancelled by nobody": (
        CHANGES % ('[["cancel",1,2,3,["T1"]]]', "sold-out"),
        [r"event blues: 3 are sold here by its count, and 2 by the tickets of its bookings$"],
    ),
    "a ticket that never was is cancelled": (
        CHANGES % ('[["cancel",1,2,3,["0123456789ab"]]]', "sold-out"),
        [r"booking sold-out of event blues: ticket 0123456789ab was cancelled, and it has no such ticket$"],
    ),
    "a ticket is cancelled twice": (
        CHANGES % ('[["cancel",1,2,3,["C1"]],["cancel",2,3,4,["C1"]]]', "cancelled-in-part"),
        [r"booking cancelled-in-part of event jazz: it cancelled a ticket twice$"],
    ),
    "a cancelled booking is forgotten": (
        "UPDATE {}bookings SET changes = NULL WHERE id = 'cancelled'",
        [r"booking cancelled of event jazz: it is cancelled, and its changes led to confirmed$",
         r"event jazz: 1009 are sold here by its count, and 1011 by the tickets of its bookings$"],
    ),
    "a past that cannot be read": (
        CHANGES % ("[7]", "released"),
        [r"booking released of event jazz: it cannot be read: "],
    ),
    "a ticket that never was is redeemed": (
        "INSERT INTO {}redemptions VALUES ('sold-out', '0123456789ab', 1, 'redeem', 5, NULL, NULL)",
        [r"booking sold-out of event blues: ticket 0123456789ab was redeemed, and it has no such ticket$"],
    ),
    "a cancelled ticket is redeemed": (
        "INSERT INTO {}redemptions VALUES ('cancelled-in-part', 'C1', 1, 'redeem', 5, NULL, NULL)",
        [r"booking cancelled-in-part of event jazz: ticket C1 was redeemed and cancelled$"],
    ),
    "a ticket of no booking is redeemed": (
        "INSERT INTO {}redemptions VALUES ('nobody', 'T1', 1, 'redeem', 5, NULL, NULL),"
        " ('zero', 'T1', 1, 'redeem', 5, NULL, NULL)",
        [r"ticket T1 of booking nobody was redeemed: no such booking$",
         r"ticket T1 of booking zero was redeemed: no such booking$"],
    ),
    "a redemption is annulled before it happens": (
        "UPDATE {}redemptions SET what = CASE number WHEN 1 THEN 'annul' ELSE 'redeem' END WHERE ticket = 'A2'",
        [r"booking annulled of event jazz: ticket A2 was not redeemed and annulled in turns$"],
    ),
    "a ticket is redeemed twice": (
        "INSERT INTO {}redemptions VALUES ('annulled', 'A2', 4, 'redeem', 5, 's', NULL)",
        [r"booking annulled of event jazz: ticket A2 was not redeemed and annulled in turns$"],
    ),
    "an annulment is lost": (
        "DELETE FROM {}redemptions WHERE ticket = 'A2' AND number = 2",
        [r"booking annulled of event jazz: ticket A2 was not redeemed and annulled in turns$"],
    ),
    "a redemption of a ticket that never was is annulled": (
        "INSERT INTO {}redemptions VALUES ('large', '0123456789ab', 1, 'redeem', 5, 's', NULL),"
        " ('large', '0123456789ab', 2, 'annul', 6, NULL, NULL)",
        [r"booking large of event jazz: a redemption of ticket 0123456789ab was annulled, and it has no such ticket$"],
    ),
    "a ticket that was reissued is redeemed": (
        "INSERT INTO {}redemptions VALUES ('annulled', 'A0', 3, 'redeem', 5, 's', NULL)",
        [r"booking annulled of event jazz: ticket A0 was redeemed, and it has no such ticket$"],
    ),
    "a ticket was reissued as another one": (
        CHANGES % ('[["reissue",1,2,3,["0123456789ab","cd0123456789"]]]', "sold-out"),
        [r"booking sold-out of event blues: ticket 0123456789ab was reissued as cd0123456789, and it has no such"],
    ),
    "a ticket was reissued and stays": (
        CHANGES % ('[["reissue",1,2,3,["T1","T2"]]]', "sold-out"),
        [r"booking sold-out of event blues: ticket T1 was reissued, and is still there$"],
    ),
    "a reissue is cut": (
        CHANGES % ('[["reissue",1,2,3,["T1"]]]', "sold-out"),
        [r"booking sold-out of event blues: its reissue names 1 tickets, not the old one and the new one$"],
    ),
    "an extension is lost": (
        "UPDATE {}bookings SET expires = expires - 1 WHERE id = 'held'",
        [r"booking held of event jazz: it runs out at \d+, by its changes at \d+$"],
    ),
    "a hold runs out late": (
        "UPDATE {}bookings SET expires = expires + 1 WHERE id = 'expired'",
        [r"booking expired of event jazz: it runs out at \d+, by its changes at \d+$"],
    ),
    "an event looks as if it never sold": (
        "UPDATE {}events SET amendments = version WHERE id = 'blues'",
        [r"event blues: it never sold by its version, and has 1 bookings$"],
    ),
    "a count of an event is changed": (
        "UPDATE {}events SET held = held + 1, available = available - 1 WHERE id = 'jazz'",
        [r"event jazz: 5 are held by its count, and 4 by its bookings$"],
    ),
    "a sale is forgotten": (
        "UPDATE {}events SET sold = sold - 1, available = available + 1 WHERE id = 'blues'",
        [r"event blues: 2 are sold here by its count, and 3 by the tickets of its bookings$"],
    ),
    "a ticket is lost on the way": (
        "UPDATE {}events SET available = available - 1 WHERE id = 'blues'",
        [r"event blues: one of its counts is below 0$",
         r"event blues: sold 3 \+ held 0 \+ available -1 = 2, not its capacity of 3$"],
    ),
    "an event that cannot be read": (
        "UPDATE {}events SET original = '7' WHERE id = 'jazz'",
        [r"event jazz: it cannot be read: "],
    ),
    "a booking has another state": (
        "UPDATE {}bookings SET state = 'held' WHERE id = 'released'",
        [r"event jazz: 4 are held by its count, and 6 by its bookings$",
         r"booking released of event jazz: it is held, and its changes led to released$"],
    ),
    "a booking has another quantity": (
        "UPDATE {}bookings SET quantity = 4 WHERE id = 'sold-out'",
        [r"booking sold-out of event blues: it is confirmed and has 3 tickets, not 4$"],
    ),
    "a booking has no event": (
        "UPDATE {}bookings SET event = 'gone' WHERE id = 'expired'",
        [r"booking expired of event gone: there is no such event$"],
    ),
}  # fmt: skip
# Where the database itself would refuse the damage.
CONSTRAINTS = """
DO $$ DECLARE found record; BEGIN
    FOR found IN SELECT conrelid::regclass AS owner, conname FROM pg_constraint
        WHERE contype = 'c' AND connamespace = 'ticketd'::regnamespace
    LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', found.owner, found.conname); END LOOP;
END $$
"""


# A database is made and filled once: that takes longer than to check it.
KEEP = " ".join(f"CREATE TABLE kept_{table.name} AS TABLE ticketd.{table.name};" for table in TABLES)
PUT_BACK = " ".join(
    f"TRUNCATE ticketd.{table.name}; INSERT INTO ticketd.{table.name} OVERRIDING SYSTEM VALUE TABLE kept_{table.name};"
    for table in TABLES
)


@pytest.fixture(scope="module")
def moved(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with a sale, which keeps its rows twice."""
    database = postgres.new_database()
    sale = tmp_path_factory.mktemp("moved") / "events.db"
    asyncio.run(make_sale(sale))
    asyncio.run(move(str(sale), database, quiet))
    query(database, CONSTRAINTS)
    query(database, f"DO $$ BEGIN {KEEP} END $$")
    yield database
    postgres.give_back(database)


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest) -> str:
    """A ledger of either kind with a sale."""
    if request.param == "sqlite":
        sale: str = request.getfixturevalue("sale")
        return sale
    database: str = request.getfixturevalue("moved")
    query(database, f"DO $$ BEGIN {PUT_BACK} END $$")
    return database


def checked(ledger: str) -> tuple[int, list[str], str]:
    """Check a ledger; return the status, what was said, and why it was refused."""
    done = ticketd("check", ledger)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr


async def test_a_whole_sale_is_whole(ledger: str) -> None:
    status, lines, error = await asyncio.to_thread(checked, ledger)
    assert (status, error) == (0, "")
    assert lines[-4:] == SALE


async def test_an_empty_sale_is_whole(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        assert daemon.end() == 0
    status, lines, _ = await asyncio.to_thread(checked, str(tmp_path / "events.db"))
    assert (status, lines[-1]) == (0, "whole")
    assert [line.partition(";")[0] for line in lines[-4:-1]] == ["events: 0", "bookings: 0", "tickets: 0"]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_is_found_and_named(damage: str, ledger: str) -> None:
    statement, expected = DAMAGES[damage]
    names = dict(zip(("T1", "T2", "T3"), tickets_of("sold-out", ledger), strict=True))
    names["C1"] = tickets_of("cancelled-in-part", ledger)[0]
    names["A1"], names["A2"] = tickets_of("annulled", ledger)
    names["A0"] = reissued_of("annulled", ledger)
    for name, ticket in names.items():
        statement = statement.replace(name, ticket)
        expected = [pattern.replace(name, ticket) for pattern in expected]
    await asyncio.to_thread(change, ledger, statement)
    said: list[str] = []
    found = (await check(ledger, said.append)).wrong
    wrong = [line.removeprefix("wrong: ") for line in said if line.startswith("wrong: ")]
    assert said[-1] == f"not whole: {found:,} wrong"
    assert len(wrong) == found
    for pattern in expected:
        assert [line for line in wrong if re.match(pattern, line)], (pattern, wrong)


def tickets_of(booking: str, ledger: str) -> list[str]:
    [tickets] = [row[4] for row in rows_in(ledger)["bookings"] if row[0] == booking]
    return re.findall(r"[0-9a-f]{12}", tickets)


def reissued_of(booking: str, ledger: str) -> str:
    [changes] = [row[-1] for row in rows_in(ledger)["bookings"] if row[0] == booking]
    # A time has as many digits.
    old, _ = re.findall(r'"([0-9a-f]{12})"', changes)
    return str(old)


def test_a_ledger_that_is_not_whole_has_status_5(sale: str) -> None:
    numbers = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1001)"
    change(sale, f"{numbers} INSERT INTO redemptions SELECT 'nobody', x, 1, 'redeem', 5, NULL, NULL FROM n")
    status, lines, error = checked(sale)
    assert status == 5
    assert error == f"ticketd: {sale} is not whole (1,001 wrong); restore it from a backup\n"
    # It does not go on for ever.
    assert len([line for line in lines if line.endswith("was redeemed: no such booking")]) == 100
    assert lines[-2:] == ["wrong: 901 more", "not whole: 1,001 wrong"]


async def test_redemptions_are_found_however_many_there_are(tmp_path: Path) -> None:
    # More bookings and redemptions than are read at once, and runs without any.
    path, ledger = tmp_path / "events.json", str(tmp_path / "events.db")
    write_events(tmp_path, 5_000)
    with running(tmp_path, "--events", str(path)) as daemon, daemon.connect() as connection:
        for number in range(5_000):
            connection.send(b'{"cmd":"book","event":"1","quantity":1,"booking":"b-%04d"}\n' % number)
        tickets = [connection.read()["tickets"][0] for _ in range(5_000)]
        used = tickets[:1] + tickets[100:3_000] + tickets[4_100:]
        for ticket in used:
            connection.send(b'{"cmd":"redeem","ticket":"%s"}\n' % ticket.encode())
        assert all(connection.read()["reply"] == "ticket" for _ in used)
        assert daemon.end() == 0
    status, lines, _ = await asyncio.to_thread(checked, ledger)
    assert (status, lines[-1]) == (0, "whole")
    assert lines[-2].startswith(f"tickets: 5,000 ({len(used):,} redeemed, {5_000 - len(used):,} valid);")


async def test_a_database_is_checked_while_a_daemon_sells(sale: str, database: str, tmp_path: Path) -> None:
    await move(sale, database, quiet)
    with running(tmp_path, "--ledger", database) as daemon, daemon.connect() as connection:
        for number in range(200):
            connection.send(b'{"cmd":"book","event":"jazz","quantity":1,"booking":"b-%d"}\n' % number)
        status, lines, error = await asyncio.to_thread(checked, database)
        assert all(connection.read()["reply"] == "booking" for _ in range(200))
        assert (status, error, lines[-1]) == (0, "", "whole")
        assert lines[0] == f"ledger: postgresql://{public_name(database)}, as it is at this moment"
        lines = (await asyncio.to_thread(checked, database))[1]
        assert lines[3].startswith("tickets: 1,215 (")


async def test_a_cut_connection_is_not_called_damage(sale: str, database: str) -> None:
    await move(sale, database, quiet)
    refusals = 0
    with Proxy(database) as proxy:
        for passed in range(200):
            said: list[str] = []
            proxy.inject([Fault("server", "message", passed, 0.5, "reset")])
            try:
                await check(proxy.url, said.append)
            except CannotOpenError as error:
                refusals += 1
                assert str(error).startswith("the ledger could not be checked: "), error
            assert not [line for line in said if "wrong" in line]
            if said[-1:] == ["whole"]:
                break
    assert refusals > 10


async def test_a_table_that_cannot_be_read_is_damage(sale: str, database: str) -> None:
    await move(sale, database, quiet)
    query(database, "ALTER TABLE ticketd.redemptions RENAME COLUMN at TO lost")
    status, lines, error = await asyncio.to_thread(checked, database)
    assert (status, lines[-1]) == (5, "not whole: 1 wrong")
    assert 'says: column "at" does not exist' in lines[-2]
    assert "restore it from a backup" in error


async def test_a_sale_that_was_moved_is_whole_and_says_so(sale: str, tmp_path: Path) -> None:
    target = str(tmp_path / "target.db")
    await move(sale, target, quiet)
    status, lines, _ = await asyncio.to_thread(checked, sale)
    assert (status, lines[-1]) == (0, "whole")
    assert f"mark: the sale of {sale} was moved to {target}; start ticketd with --ledger {target}. Should" in lines[4]
    assert (await asyncio.to_thread(checked, target))[1][-4:] == SALE
