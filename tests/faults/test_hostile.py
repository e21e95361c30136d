"""The bounded form of the storm. The limits that it tries one by one have their own tests in ``test_server``."""

import random
from pathlib import Path

from tests.faults import hostile


def test_500_hostile_connections_do_not_spoil_or_delay_others(chance: random.Random, tmp_path: Path) -> None:
    # Over 5 s: two storms of seconds, each of which has to end for all 500.
    print(hostile.run(chance, 1, tmp_path))
