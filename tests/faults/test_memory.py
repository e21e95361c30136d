import random
from pathlib import Path

from tests.faults.memory import GREEDY, SHOWS, WORST_WITH_TLS, strike
from tests.secured import RSA, tls_context


def test_memory_per_connection_is_bounded_whatever_is_asked(tmp_path: Path, chance: random.Random) -> None:
    assert strike(chance, 1, tmp_path, GREEDY)


def test_memory_per_connection_is_bounded_in_tls_too(tmp_path: Path, chance: random.Random) -> None:
    """Takes 4 s: a bound is seen only with many connections that ask for the most."""
    assert strike(chance, 1, tmp_path, WORST_WITH_TLS, "--tls-certificate", str(RSA), tls=tls_context())


def test_shows_from_postgresql_do_not_pile_up_either(tmp_path: Path, chance: random.Random, database: str) -> None:
    assert strike(chance, 1, tmp_path, SHOWS, "--ledger", database)
