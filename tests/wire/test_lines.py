from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketd.wire.lines import Lines

LIMIT = 8


def split(chunks: Iterable[bytes]) -> tuple[list[bytes], bool, bytes]:
    lines = Lines(LIMIT)
    complete = [line for chunk in chunks for line in lines.feed(chunk)]
    return complete, lines.too_long, lines.end()


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


# The stream, and what is promised of it: the lines, whether one was too long, and what is left at the end.
STREAMS = [
    pytest.param(b"", [], False, b"", id="nothing"),
    pytest.param(b"a\nb\n", [b"a", b"b"], False, b"", id="LF"),
    pytest.param(b"a\r\nb\r\n", [b"a", b"b"], False, b"", id="CR LF"),
    pytest.param(b"\n\r\n \t\r\n\n \na\n\n", [b"a"], False, b"", id="blank lines"),
    pytest.param(b" a b \n", [b"a b"], False, b"", id="blanks around"),
    pytest.param(b"a\rb\n", [b"a\rb"], False, b"", id="CR within"),
    pytest.param(b"a\nbc", [b"a"], False, b"bc", id="rest"),
    pytest.param(b"a\nbc\r", [b"a"], False, b"bc", id="rest with CR"),
    pytest.param(b"a\n \t", [b"a"], False, b"", id="blank rest"),
    pytest.param(b"12345678\n", [b"12345678"], False, b"", id="limit"),
    pytest.param(b"12345678\r\n", [b"12345678"], False, b"", id="limit, CR LF"),
    pytest.param(b"12345678", [], False, b"12345678", id="limit, rest"),
    pytest.param(b"12345678\r", [], False, b"12345678", id="limit, rest with CR"),
    pytest.param(b"12345678\n12345678\n", [b"12345678", b"12345678"], False, b"", id="limit is of each line"),
    pytest.param(b"123456789\n", [], True, b"", id="limit + 1"),
    pytest.param(b"123456789\r\n", [], True, b"", id="limit + 1, CR LF"),
    pytest.param(b"123456789", [], True, b"", id="limit + 1, rest"),
    pytest.param(b"12345678\r\r\n", [], True, b"", id="only one CR is free"),
    pytest.param(b"12345678\rx", [], True, b"", id="CR that does not end the line"),
    pytest.param(b"a\nb\n123456789\nc\nd", [b"a", b"b"], True, b"", id="lines before count, after do not"),
    pytest.param(b"a\nb\n123456789", [b"a", b"b"], True, b"", id="lines before an unfinished one"),
]


@pytest.mark.parametrize(("stream", "lines", "too_long", "rest"), STREAMS)
def test_a_stream_gives_the_expected_lines_in_any_chunks(
    stream: bytes, lines: list[bytes], too_long: bool, rest: bytes
) -> None:
    promised = lines, too_long, rest
    assert split([stream]) == promised
    assert split(cut(stream, range(len(stream)))) == promised, "byte by byte"
    for place in range(len(stream) + 1):
        assert split(cut(stream, [place])) == promised, f"cut at {place}"


@given(
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b" ", b"a", b"{}", b"1234567", b"12345678"])).map(b"".join),
    st.lists(st.integers(0, 200)),
)
def test_chunks_never_change_the_lines(stream: bytes, places: list[int]) -> None:
    assert split(cut(stream, places)) == split([stream])


@given(st.binary(), st.lists(st.integers(0, 200)))
def test_lines_are_never_blank_too_long_or_with_a_newline(stream: bytes, places: list[int]) -> None:
    complete, _, rest = split(cut(stream, places))
    assert all(0 < len(line) <= LIMIT and b"\n" not in line and line.strip(b" \t\r") == line for line in complete)
    assert len(rest) <= LIMIT


def test_a_line_is_pending_from_its_first_byte_to_its_newline() -> None:
    lines = Lines(LIMIT)
    seen = [lines.pending]
    for chunk in (b"a", b"b", b"\n", b"c\nd", b"\r", b"\n"):
        lines.feed(chunk)
        seen.append(lines.pending)
    assert seen == [False, True, True, False, True, True, False]


def test_nothing_is_pending_after_the_end() -> None:
    lines = Lines(LIMIT)
    lines.feed(b"abc")
    assert (lines.end(), lines.pending, lines.end()) == (b"abc", False, b"")


def test_no_input_is_taken_or_kept_after_an_overlong_line() -> None:
    lines = Lines(LIMIT)
    assert lines.feed(b"123456789") == []
    assert (lines.too_long, lines.pending) == (True, False)
    assert lines.feed(b"\na\n") == []
    assert (lines.too_long, lines.pending, lines.end()) == (True, False, b"")
