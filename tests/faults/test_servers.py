"""The bounded form of the attack on ticketctl by the servers that it talks to."""

import random
from pathlib import Path

from tests.faults import servers


def test_ticketctl_tells_the_truth_whatever_a_server_answers(chance: random.Random, tmp_path: Path) -> None:
    print(servers.run(chance, 1, tmp_path))
