"""Other hands at the ledger's files: links to them in the place of events.json, and files that are taken away.

Whatever was done, no second daemon serves the same ledger, and everything acknowledged is there at the next start.
"""

import os
import random
from collections import Counter
from pathlib import Path

from tests.daemon import Connection, Daemon, running, write_events

FILES = ("events.db", "events.db-wal", "events.db-seal")
CAPACITY = 100_000
BOOKINGS = 20


def run(chance: random.Random, size: int, folder: Path) -> dict[str, float]:
    """Sell, lay hands on the files, and look what the next daemon has; three times for each of ``size``."""
    figures: Counter[str] = Counter()
    acknowledged: set[str] = set()
    for number in range(3 * size):
        write_events(folder, CAPACITY)
        with running(folder) as daemon, daemon.connect() as connection:
            _check(connection, acknowledged)
            for booking in range(chance.randrange(1, BOOKINGS)):
                _book(connection, f"b{number}-{booking}", acknowledged)
            deed = chance.choice([_link, _take_away, _take_away_and_end])
            deed(daemon, connection, folder, chance)
        # A link would be written through.
        (folder / "events.json").unlink()
        figures[deed.__name__.strip("_").replace("_", " ")] += 1
    with running(folder) as daemon, daemon.connect() as connection:
        _check(connection, acknowledged)
    figures["bookings"] = len(acknowledged)
    return dict(figures)


def another_starts(folder: Path) -> Daemon | None:
    """Start another daemon on the same ledger, and return it if it serves."""
    second = Daemon("--port", "0", "--events", str(folder / "other.json"), "--ledger", str(folder / "events.db"))
    if second.wait_line("^ready|in use by another ticketd").startswith("ready"):
        return second
    assert second.wait() == 5
    return None


def put_link(folder: Path, name: str, *, hard: bool) -> None:
    """Put a link to a file of the ledger in the place of events.json, at once."""
    new = folder / "new"
    (os.link if hard else os.symlink)(folder / name, new)
    new.replace(folder / "events.json")


def _link(daemon: Daemon, connection: Connection, folder: Path, chance: random.Random) -> None:
    name = chance.choice(FILES)
    put_link(folder, name, hard=chance.random() < 0.5)
    daemon.wait_line(rf"ERROR .*events\.json is a file of the ledger \({name}\), not a catalogue")
    assert another_starts(folder) is None
    assert connection.ask("show 1")["reply"] == "event"


def _take_away(daemon: Daemon, connection: Connection, folder: Path, chance: random.Random) -> None:
    (folder / chance.choice(FILES[1:])).unlink()
    assert connection.ask("book 1 1 --booking unknown")["code"] == "outcome_unknown"
    assert daemon.wait() == 6


def _take_away_and_end(daemon: Daemon, connection: Connection, folder: Path, chance: random.Random) -> None:
    (folder / "events.db-wal").unlink()
    assert daemon.end() == 0


def _book(connection: Connection, booking: str, acknowledged: set[str]) -> None:
    assert connection.ask(f"book 1 1 --booking {booking}")["state"] == "confirmed"
    acknowledged.add(booking)


def _check(connection: Connection, acknowledged: set[str]) -> None:
    for booking in acknowledged:
        assert connection.ask(f"book 1 1 --booking {booking}")["replayed"], f"{booking} is forgotten"
    assert connection.ask("show 1")["sold"] == len(acknowledged)
