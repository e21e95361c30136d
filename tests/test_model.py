import sys
import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketd.model import UNSAFE, Event, checked_name, printable, utc

DIRECTION_CONTROLS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def forges(char: str) -> bool:
    """Whether Unicode's own tables call it a control, a line separator, half a pair or a change of direction."""
    return (
        unicodedata.category(char) in {"Cc", "Zl", "Zp", "Cs"} or unicodedata.bidirectional(char) in DIRECTION_CONTROLS
    )


def test_exactly_the_characters_that_forge_lines_or_turn_text_are_unsafe() -> None:
    wrong = [f"U+{n:04X}" for n in range(sys.maxunicode + 1) if bool(UNSAFE.search(chr(n))) != forges(chr(n))]
    assert wrong == []


@pytest.mark.parametrize(
    "name",
    ["x", "  two  spaces ", "Café", "日本語", "שלום", "🎷🎶", 'a"b\\c', "{}", "--id", "x" * 200, "é" * 100, "🎷" * 50],
)
def test_a_good_name_is_kept_as_it_is(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "it has 0"),
        ("x" * 201, "it has 201"),
        ("é" * 100 + "x", "it has 201"),
        ("e\u0301", "NFC"),
        ("a\nb", r"U\+000A"),
        ("a\x1b[2J", r"U\+001B"),
        ("a\x00", r"U\+0000"),
        ("a\x85", r"U\+0085"),
        ("\u202eabc", r"U\+202E"),
        ("a\u2028b", r"U\+2028"),
        ("a\ud800", "UTF-8"),
    ],
)
def test_a_bad_name_is_refused_with_what_is_wrong(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^name must .*{says}"):
        checked_name(name)


@settings(deadline=None)
@given(st.text(st.characters()))
def test_printable_text_has_nothing_unsafe_in_it(text: str) -> None:
    assert not any(forges(char) for char in printable(text))


@settings(deadline=None)
@given(st.text())
def test_json_made_printable_still_means_the_same(text: str) -> None:
    assert msgspec.json.decode(printable(msgspec.json.encode(text).decode())) == text


@pytest.mark.parametrize("hours", [-12, 0, 1, 14])
def test_the_same_moment_in_another_zone_is_the_same_in_utc(hours: int) -> None:
    moment = datetime(2027, 3, 11, 20, tzinfo=UTC)
    assert utc(moment.astimezone(timezone(timedelta(hours=hours)))).isoformat() == "2027-03-11T20:00:00+00:00"


@pytest.mark.parametrize(
    "date",
    [
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    ],
)
def test_a_moment_that_utc_has_no_year_for_is_refused(date: datetime) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        utc(date)


def event_with(available: int, held: int) -> Event:
    return Event("e", "E", datetime(2027, 3, 11, tzinfo=UTC), 100, available, held, 100 - available - held, 7, 0)


@pytest.mark.parametrize(("available", "held", "quantity"), [(100, 0, 1), (5, 3, 5), (1, 99, 1)])
def test_selling_moves_tickets_and_counts_one_change(available: int, held: int, quantity: int) -> None:
    event = event_with(available, held)
    event.move(quantity, "available", "sold")
    assert (event.available, event.held, event.version) == (available - quantity, held, 8)
    assert event.sold + event.held + event.available == event.capacity


@pytest.mark.parametrize(("available", "quantity"), [(0, 1), (5, 6), (5, 0), (5, -1)])
def test_what_is_not_available_cannot_be_sold(available: int, quantity: int) -> None:
    event = event_with(available, 0)
    with pytest.raises(AssertionError):
        event.move(quantity, "available", "sold")
    assert event == event_with(available, 0)
