"""A sale in a ledger, and databases to move it to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.sale import make_sale
from tests.postgres import Server


@pytest.fixture
async def sale(tmp_path: Path) -> str:
    """An embedded ledger with a sale, in a folder of its own."""
    folder = tmp_path / "sale"
    folder.mkdir()
    await make_sale(folder / "events.db")
    return str(folder / "events.db")


@pytest.fixture
def another_database(postgres: Server) -> Iterator[str]:
    """The URL of another empty database."""
    url = postgres.new_database()
    yield url
    postgres.drop(url)
