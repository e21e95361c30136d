"""What the database says of a waiting list: whether somebody was passed over, now or at any time before."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from tests.postgres import query

# Those who could have tickets that the public may have. $1 is the time, in milliseconds since 1970.
_PASSED_OVER = """
SELECT bookings.id FROM ticketd.events JOIN ticketd.bookings ON event = events.id
WHERE bookings.state = 'waiting' AND quantity <= events.available
    AND NOT paused AND coalesce(opens, 0) <= $1 AND (closes IS NULL OR closes > $1)
ORDER BY bookings.version
"""
_STATES = "SELECT id, state FROM ticketd.bookings ORDER BY id"
_BOOKINGS = "SELECT id, quantity, state, seconds, available, version, changes FROM ticketd.bookings"

# What becomes of one booking at one version of its event: what, the booking, its tickets, and what is available then.
_Step = tuple[str, str, int, int]


async def passed_over(database: str, now: int) -> list[str]:
    """Return who waits although there are enough tickets."""
    return [id for [id] in await asyncio.to_thread(query, database, _PASSED_OVER, now)]


async def states(database: str) -> dict[str, str]:
    """Return the states of all bookings."""
    return {row["id"]: row["state"] for row in await asyncio.to_thread(query, database, _STATES)}


async def check_order(database: str, capacity: int, amended: Mapping[int, tuple[int, bool]]) -> int:
    """Check that of the only event, each ticket went to the first in line who could use it, before anybody else.

    At first it has ``capacity`` tickets. ``amended`` has, by the version after it, what an amendment made of the
    capacity, and whether the event was paused. Returns how many bookings were offered tickets.
    """
    steps = _steps(await asyncio.to_thread(query, database, _BOOKINGS))
    line: dict[str, int] = {}
    available, paused, offers = capacity, False, 0
    for version in range(1, max([*steps, *amended]) + 1):
        if version in amended:
            assert version not in steps
            new, paused = amended[version]
            available, capacity = available + new - capacity, new
            continue
        turn = None if paused else next((id for id, quantity in line.items() if quantity <= available), None)
        for what, id, quantity, _ in steps[version]:
            if what == "wait":
                line[id] = quantity
            elif what in ("offer", "leave"):
                del line[id]
            if what in ("offer", "book", "hold", "late"):
                assert turn == (id if what == "offer" else None), (
                    f"{version}: {what} {id}, and it is the turn of {turn}"
                )
                available -= quantity
                offers += what == "offer"
            elif what in ("release", "expire", "cancel"):
                available += quantity
        assert {then for _, _, _, then in steps[version]} == {available}, f"{version}: {steps[version]}, {available}"
    return offers


def _steps(rows: list[Any]) -> dict[int, list[_Step]]:
    """Return what happened to bookings, by the version after it. Only holds that run out together share a version."""
    steps: dict[int, list[_Step]] = {}
    for id, quantity, state, seconds, available, version, text in rows:
        changes = json.loads(text or "[]")
        kinds = [change[0] for change in changes]
        waited = kinds[0] in ("offer", "leave") if kinds else state == "waiting"
        first = "wait" if waited else "hold" if seconds else "book"
        steps.setdefault(version, []).append((first, id, quantity, available))
        for place, change in enumerate(changes):
            what = "late" if kinds[place - 1 : place + 1] == ["expire", "confirm"] else kinds[place]
            tickets = len(change[4]) if what == "cancel" else quantity
            steps.setdefault(change[2], []).append((what, id, tickets, change[1]))
    for version, together in steps.items():
        assert len(together) == 1 or {what for what, *_ in together} == {"expire"}, f"{version}: {together}"
    return steps
