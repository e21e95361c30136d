import random
from pathlib import Path

from tests.faults import events_file


def test_the_end_with_a_large_catalogue_keeps_its_deadline(chance: random.Random, tmp_path: Path) -> None:
    # 5 s: clients that take nothing use up all the time that they are given.
    assert events_file.run(chance, 1, tmp_path)["sold"] > 100
