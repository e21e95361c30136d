"""A ledger that cannot be written is not opened, and the message says which file it is, and why."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ticketd.ledger.base import CannotOpenError
from ticketd.ledger.embedded.files import load_checksums
from ticketd.ledger.embedded.opening import Use, open_ledger

NOBODY = 65_534


@pytest.fixture
def ledger() -> Iterator[Path]:
    """The path of a ledger, in a folder that everybody reaches."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        with unprivileged():
            open_ledger(folder / "events.db", Use()).files.close()
        yield folder / "events.db"
        folder.chmod(0o777)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Do something as a user to whom file modes matter."""
    # It is loaded from files that such a user may not be able to read.
    load_checksums()
    if user := os.geteuid():
        yield
        assert user == os.geteuid()
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("mode", [0o400, 0o000])
@pytest.mark.parametrize("suffix", ["", "-seal"])
def test_a_file_that_cannot_be_written_is_named(ledger: Path, suffix: str, mode: int) -> None:
    file = ledger.with_name(ledger.name + suffix)
    file.chmod(mode)
    with unprivileged(), pytest.raises(CannotOpenError) as refused:
        open_ledger(ledger, Use())
    assert str(refused.value) == (
        f"the ledger {ledger} cannot be written: {file} must be readable and writable for the user that ticketd runs as"
    )
    file.chmod(0o600)
    with unprivileged():
        open_ledger(ledger, Use()).files.close()


def test_a_folder_in_which_no_log_can_be_made_is_named(ledger: Path) -> None:
    # It is empty, and a ledger that was closed in good order has none.
    ledger.with_name(f"{ledger.name}-wal").unlink()
    ledger.parent.chmod(0o555)
    with unprivileged(), pytest.raises(CannotOpenError, match=f"cannot be written: {ledger.parent} must be "):
        open_ledger(ledger, Use())
