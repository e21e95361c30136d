"""What is promised of many daemons on one PostgreSQL."""

import random
from pathlib import Path

from tests.faults import many


def test_three_daemons_under_kill_9_sell_exactly_5000_tickets(
    chance: random.Random, tmp_path: Path, database: str
) -> None:
    # Over 5 s: 20,000 requests, each of which is followed by a look at the event.
    figures = many.sell_out(chance, tmp_path, database)
    assert figures["sold"] == many.TICKETS


def test_kill_9_of_any_daemon_loses_no_acknowledged_change(
    chance: random.Random, tmp_path: Path, database: str
) -> None:
    # Over 5 s, most of them to prove a long history.
    many.do_all(chance, tmp_path, database)
