"""What is promised of a waiting list: its tickets go to the first whom they are enough for; no crash loses a place."""

import random
from pathlib import Path

from tests.faults import line

WAITING = 1_000
WAITING_SHARED = 60
KILLS = 2


def test_kill_9_loses_no_place_in_line_and_offers_nothing_twice(chance: random.Random, tmp_path: Path) -> None:
    figures = line.wait_for_a_file(chance, WAITING, KILLS, tmp_path)
    assert figures["waited"] == WAITING
    assert min(figures[what] for what in ("offered", "offers that ran out", "left the line", "still in line")) > 0


def test_daemons_that_share_a_ledger_serve_a_line_together(
    chance: random.Random, tmp_path: Path, database: str
) -> None:
    figures = line.wait_for_a_database(chance, WAITING_SHARED, KILLS, tmp_path, database)
    assert figures["shared: offered"] > 0
