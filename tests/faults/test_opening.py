"""What is promised of a sale that opens while a crowd hammers at it."""

import random
from pathlib import Path

from tests.faults import opening

CLIENTS = 200
CLIENTS_SHARED = 50


def test_nothing_is_sold_before_the_sale_opens(chance: random.Random, tmp_path: Path) -> None:
    figures = opening.open_a_sale(chance, CLIENTS, tmp_path)
    assert figures["refused before it opened"] >= CLIENTS
    assert figures["refused by the limit"] > 0


def test_daemons_that_share_a_ledger_open_a_sale_together(chance: random.Random, tmp_path: Path, database: str) -> None:
    figures = opening.open_a_shared_sale(chance, CLIENTS_SHARED, tmp_path, database)
    assert figures["shared: refused before it opened"] >= CLIENTS_SHARED
