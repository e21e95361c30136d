"""Daemons that share a ledger in PostgreSQL."""

import shutil
import time
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path

from tests.daemon import Daemon, until
from tests.faults.history import Row
from tests.postgres import query

BUG_LINES_MAX = 60
# The changes of a booking are arrays of the fields of ``Change``: ``what`` is the first one, ``tickets`` the fifth.
_GONE = """jsonb_array_elements(changes) AS change, jsonb_array_elements_text(change.value -> 4) AS gone
    WHERE change.value ->> 0 = 'cancel'"""
_REPLACED = """(
    SELECT change.value #>> '{4,0}' FROM jsonb_array_elements(changes) AS change
    WHERE change.value ->> 0 = 'reissue')"""
# What must not be found in a ledger.
_IMBALANCES = {
    "an event has other counts than its bookings": f"""
        SELECT id FROM ticketd.events
        WHERE sold <> sold_elsewhere + (
            SELECT coalesce(sum(jsonb_array_length(tickets) - (SELECT count(*) FROM {_GONE})), 0)
            FROM ticketd.bookings WHERE event = events.id)
        OR held <> (SELECT coalesce(sum(quantity), 0) FROM ticketd.bookings WHERE event = events.id AND state = 'held')
        OR waiting <> (SELECT count(*) FROM ticketd.bookings WHERE event = events.id AND state = 'waiting')
        OR capacity <> available + held + sold""",
    "a booking has other tickets than its state says": f"""
        SELECT id FROM ticketd.bookings
        WHERE jsonb_array_length(tickets) <> CASE WHEN state IN ('confirmed', 'cancelled') THEN quantity ELSE 0 END
        OR (SELECT count(DISTINCT value) FROM jsonb_array_elements(tickets)) <> jsonb_array_length(tickets)
        OR (SELECT count(*) FROM {_GONE}) <> (SELECT count(DISTINCT gone) FROM {_GONE} AND tickets ? gone)
        OR (state = 'cancelled') <> ((SELECT count(*) FROM {_GONE}) = quantity)""",
    "what was reissued is still a ticket of the booking": f"""
        SELECT id FROM ticketd.bookings WHERE EXISTS (
            SELECT FROM jsonb_array_elements_text(tickets) AS ticket WHERE ticket IN {_REPLACED})""",
    "what lets in is no valid ticket": f"""
        SELECT booking, ticket FROM ticketd.redemptions AS entry LEFT JOIN ticketd.bookings ON id = booking
        WHERE what = 'redeem' AND ((tickets ? ticket) IS NOT TRUE OR ticket IN (SELECT gone FROM {_GONE}))
        AND number = (
            SELECT max(number) FROM ticketd.redemptions WHERE (booking, ticket) = (entry.booking, entry.ticket))""",
    "a ticket was not redeemed and annulled in turns": """
        SELECT booking, ticket FROM ticketd.redemptions GROUP BY booking, ticket
        HAVING max(number) <> count(*) OR bool_or((what = 'redeem') <> (number % 2 = 1))""",
    "a booking has no event": """
        SELECT id FROM ticketd.bookings WHERE event NOT IN (SELECT id FROM ticketd.events)""",
}


class Fleet:
    """Daemons on the database of a URL, ``size`` at first, that put the events of events.json in the folder on sale.

    ``living`` are those that were not killed; ``began`` tells by its port when each was started.
    """

    def __init__(self, folder: Path, url: str, size: int = 0) -> None:
        self._folder = folder
        self._url = url
        self._exits = ExitStack()
        self._started: list[Daemon] = []
        self.living: list[Daemon] = []
        self.began: dict[int, float] = {}
        for _ in range(size):
            self.start()

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def start(self, *arguments: str, url: str | None = None) -> Daemon:
        """Start a daemon, whose way to the database may be another, and wait until it serves."""
        events = self._folder / f"events-{len(self.began)}.json"
        shutil.copy(self._folder / "events.json", events)
        began = time.monotonic()
        daemon = Daemon("--port", "0", "--events", str(events), "--ledger", url or self._url, *arguments)
        self._exits.callback(daemon.kill)
        self.began[daemon.wait_ready()] = began
        self._started.append(daemon)
        self.living.append(daemon)
        return daemon

    def kill(self, daemon: Daemon) -> None:
        """End a daemon as kill -9 does."""
        self.living.remove(daemon)
        daemon.kill()

    @property
    def ports(self) -> list[int]:
        """The ports of those that live."""
        return [daemon.port for daemon in self.living]

    def events(self) -> list[Row]:
        """Return the events once all daemons tell the same of them."""
        until(lambda: all(shown == self._shown()[0] for shown in self._shown()))
        return self._shown()[0]

    def see_no_bug(self) -> None:
        """Check that no log tells of a bug."""
        for daemon in self._started:
            for place, line in enumerate(daemon.lines):
                assert " ERROR " not in line, "\n".join(daemon.lines[place : place + BUG_LINES_MAX])

    def end(self) -> None:
        """End all in good order, and check that the counts of all events agree."""
        for daemon in self.living:
            assert daemon.end() == 0, daemon.lines[-5:]
        for what, select in _IMBALANCES.items():
            found = query(self._url, f"{select} LIMIT 3")
            assert not found, f"{what}: {found}"

    def _shown(self) -> list[list[Row]]:
        shown = []
        for daemon in self.living:
            with daemon.connect() as connection:
                # Each daemon lists new events in the order in which it heard of them.
                shown.append(sorted(connection.ask("list")["events"], key=itemgetter("id")))
        return shown
