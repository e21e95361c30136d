"""What is promised when a primary fails over to its standby, and comes back."""

import random
from pathlib import Path

from tests.faults import failover
from tests.faults.pair import Pair


def test_failovers_lose_nothing_and_sell_on_one_primary(chance: random.Random, tmp_path: Path) -> None:
    # Each of its five rounds waits for what it broke: until daemons notice, sell again, and a standby is rebuilt.
    with Pair() as pair:
        figures, _ = failover.fail_over_again_and_again(chance, tmp_path, pair, failover.rounds(chance))
    assert figures["sold"] > 0
