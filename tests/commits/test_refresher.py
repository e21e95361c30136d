"""What the polls of a shared ledger bring."""

from typing import cast

import pytest

from ticketd.commits.catalogue import Catalogue
from ticketd.commits.health import Health
from ticketd.commits.refresher import refresh
from ticketd.ledger.base import CannotOpenError, Changes, SharedLedger


class Migrated:
    """A ledger that a newer ticketd has migrated while it was served."""

    async def fetch_changes(self) -> Changes:
        raise CannotOpenError("the ledger has schema 99; start a newer ticketd")


async def test_a_ledger_that_became_too_new_ends_the_refresher() -> None:
    with pytest.raises(CannotOpenError, match="schema 99"):
        await refresh(cast(SharedLedger, Migrated()), Catalogue([]), Health())
