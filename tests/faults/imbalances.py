"""Checks the counts of a ledger in a file against its bookings, and those against their changes."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

# The changes of a booking are arrays of the fields of ``Change``: ``what`` is the first one, ``tickets`` the fifth.
_GONE = "json_each(changes) AS change, json_each(change.value, '$[4]') AS gone WHERE change.value ->> '$[0]' = 'cancel'"
_CANCELLED = f"(SELECT count(*) FROM {_GONE})"
_REPLACED = """(
    SELECT change.value ->> '$[4][0]' FROM json_each(changes) AS change WHERE change.value ->> '$[0]' = 'reissue')"""
# What must not be found.
_IMBALANCES = {
    "an event has other counts than its bookings": f"""
        SELECT id FROM events
        WHERE sold <> sold_elsewhere
            + (SELECT total(json_array_length(tickets) - {_CANCELLED}) FROM bookings WHERE event = events.id)
        OR held <> (SELECT total(quantity) FROM bookings WHERE event = events.id AND state = 'held')
        OR waiting <> (SELECT count(*) FROM bookings WHERE event = events.id AND state = 'waiting')
        OR capacity <> available + held + sold""",
    "a booking has not as many tickets as it should, or one twice": f"""
        SELECT id FROM bookings
        WHERE (SELECT count(DISTINCT value) FROM json_each(tickets)) <> json_array_length(tickets)
        OR json_array_length(tickets) <> iif(state IN ('confirmed', 'cancelled'), quantity, 0)
        OR (state = 'cancelled') <> ({_CANCELLED} = quantity)""",
    "what was cancelled is not of the booking, or was cancelled twice": f"""
        SELECT bookings.id FROM bookings, {_GONE}
        GROUP BY bookings.id, gone.value
        HAVING count(*) > 1 OR gone.value NOT IN (SELECT value FROM json_each(tickets))""",
    "what was reissued is still a ticket of the booking": f"""
        SELECT id FROM bookings
        WHERE EXISTS (SELECT 1 FROM json_each(tickets) AS ticket WHERE ticket.value IN {_REPLACED})""",
    "what lets in is not of a booking, or was cancelled": f"""
        SELECT * FROM redemptions AS entry LEFT JOIN bookings ON id = booking
        WHERE what = 'redeem'
        AND number = (SELECT max(number) FROM redemptions WHERE (booking, ticket) = (entry.booking, entry.ticket))
        AND (NOT coalesce(ticket IN (SELECT value FROM json_each(tickets)), false)
            OR ticket IN (SELECT gone.value FROM {_GONE}))""",
    "a ticket was not redeemed and annulled in turns": """
        SELECT booking, ticket FROM redemptions
        GROUP BY booking, ticket HAVING max(number) <> count(*) OR sum((what = 'redeem') <> (number % 2)) > 0""",
    "a booking is of no event": "SELECT id FROM bookings WHERE event NOT IN (SELECT id FROM events)",
    "the file is damaged": "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
}


def check_ledger(folder: Path) -> None:
    """Check that the counts of a ledger agree, in a copy, so that it is the daemon that recovers after a crash."""
    copy = folder / "copy"
    copy.mkdir()
    for file in folder.glob("events.db*"):
        shutil.copy(file, copy)
    with closing(sqlite3.connect(copy / "events.db")) as database:
        for what, select in _IMBALANCES.items():
            found = database.execute(select).fetchmany(3)
            assert not found, f"{what}: {found}"
    shutil.rmtree(copy)
