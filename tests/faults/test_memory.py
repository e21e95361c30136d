import random
from pathlib import Path

from tests.faults.memory import GREEDY, SHOWS, strike


def test_memory_per_connection_is_bounded_whatever_is_asked(tmp_path: Path, chance: random.Random) -> None:
    assert strike(chance, 1, tmp_path, GREEDY)


def test_shows_from_postgresql_do_not_pile_up_either(tmp_path: Path, chance: random.Random, database: str) -> None:
    assert strike(chance, 1, tmp_path, SHOWS, "--ledger", database)
