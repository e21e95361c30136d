import random
from pathlib import Path

from tests.faults.memory import run


def test_memory_per_connection_is_bounded_whatever_is_asked(tmp_path: Path, chance: random.Random) -> None:
    assert run(chance, 1, tmp_path)["KiB per connection"]
