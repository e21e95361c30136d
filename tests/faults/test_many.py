"""What is promised of many daemons on one PostgreSQL."""

import random
from pathlib import Path

from tests.faults import many


def test_three_daemons_sell_5000_tickets_to_300_who_want_20000_while_one_is_killed_again_and_again(
    chance: random.Random, tmp_path: Path, database: str
) -> None:
    figures = many.sell_out(chance, tmp_path, database)
    assert figures["sold"] == many.TICKETS


def test_kill_9_of_one_daemon_after_the_other_loses_no_acknowledged_change_and_doubles_none(
    chance: random.Random, tmp_path: Path, database: str
) -> None:
    many.do_all(chance, tmp_path, database)
