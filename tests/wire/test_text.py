import pytest

from ticketd.wire.text import checked_name


@pytest.mark.parametrize(
    "name",
    ["x", "two  spaces", "Café", "日本語", "שלום", "🎷🎶", 'a"b\\c', "{}", "--id", "x" * 200, "é" * 100, "🎷" * 50],
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
        (" ", "blank"),
        (" x", "blank"),
        ("x ", "blank"),
        ("\u00a0", "blank"),
        ("x\u3000", "blank"),
        ("a\nb", r"U\+000A"),
        ("a\x1b[2J", r"U\+001B"),
        ("a\x00", r"U\+0000"),
        ("a\x85", r"U\+0085"),
        ("\u202eabc", r"U\+202E"),
        ("a\u2028b", r"U\+2028"),
        ("a\ud800", "UTF-8"),
    ],
)
def test_a_bad_name_is_refused_with_the_reason(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"^name must .*{says}"):
        checked_name(name)
