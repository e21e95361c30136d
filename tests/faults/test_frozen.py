"""What is promised while a file system is frozen."""

import random
from pathlib import Path

import pytest

from tests.faults import frozen


@pytest.mark.skipif(not frozen.can_freeze(), reason="it takes root and a loop device")
def test_a_frozen_disk_stops_only_what_needs_it(chance: random.Random, tmp_path: Path) -> None:
    figures = frozen.run(chance, 1, tmp_path, seconds=0.5)
    assert figures["answers meanwhile"] > 10
