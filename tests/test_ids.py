"""Ids that are minted, whatever the clock says."""

import pytest

from ticketd import ids
from ticketd.model import is_id


def test_a_clock_before_1970_mints_ids_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ids.new_id()[14] == "7"
    monkeypatch.setattr("time.time", lambda: -1.0)
    assert ids.new_id()[14] == "4"
    assert ids.new_id() != ids.new_id()


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Jazz Night", "jazz-night"),
        ("Größen der Nacht", "grossen-der-nacht"),
        ("Gro\u0308\u00dfen", "grossen"),
        ("Fête à Zürich", "fete-a-zurich"),
        ("Москва", "moskva"),
        ("東京", "dongjing"),
        ("!?", "event"),
    ],
)
def test_the_id_of_an_event_keeps_the_letters_of_its_name(name: str, slug: str) -> None:
    id = ids.new_event_id(name)
    assert id.startswith(f"{slug}-")
    assert len(id) == len(slug) + 7
    assert is_id(id)


def test_the_id_of_an_event_stays_short_whatever_its_name() -> None:
    assert len(ids.new_event_id("京" * 60)) <= 39
