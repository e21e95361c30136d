"""Ids that are minted, whatever the clock says."""

import pytest

from ticketd import ids


def test_a_clock_before_1970_mints_ids_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ids.new_id()[14] == "7"
    monkeypatch.setattr("time.time", lambda: -1.0)
    assert ids.new_id()[14] == "4"
    assert ids.new_id() != ids.new_id()
