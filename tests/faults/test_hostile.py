"""The bounded form of the storm. The limits that it tries one by one have their own tests in ``test_server``."""

import random
from pathlib import Path

from tests.faults import hostile


def test_five_hundred_hostile_connections_neither_spoil_nor_delay_what_ten_good_ones_ask(
    chance: random.Random, tmp_path: Path
) -> None:
    print(hostile.run(chance, 1, tmp_path))
