"""Lines of JSON to requests and back: whatever a line holds, it decodes or is refused with a reason."""

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.frames import refused
from tests.wire.strategies import IDS, REQUESTS
from ticketd.errors import Code, TicketError
from ticketd.model import UNSAFE
from ticketd.wire.codec import decode, encode
from ticketd.wire.commands import commands, unknown_command
from ticketd.wire.requests import Book, List, Ping, Request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | IDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = sorted({field.name for command in commands().values() for field in command.fields})


def decodes_or_is_refused_well(frame: bytes) -> None:
    try:
        decode(frame)
    except TicketError as error:
        assert error.code in get_args(Code)
        assert error.message
        assert not UNSAFE.search(error.message)


@given(REQUESTS)
def test_a_daemon_decodes_what_a_client_encodes(request: Request) -> None:
    assert decode(encode(request)) == request


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"{", id="cut short"),
        pytest.param(b'{"cmd":"ping"', id="no end"),
        pytest.param(b'{"cmd":"ping"} {"cmd":"ping"}', id="trailing garbage"),
        pytest.param(b"{'cmd':'ping'}", id="single quotes"),
        pytest.param(b'{"cmd":"ping",}', id="trailing comma"),
        pytest.param(b'{"cmd":"sh\xff"}', id="value not UTF-8"),
        pytest.param(b'{"cmd":"ping","\xc3":1}', id="field not UTF-8"),
        pytest.param(b'{"cmd":"show","id":"\\ud800"}', id="lone high surrogate"),
        pytest.param(b'{"cmd":"show","id":"\\udc00 "}', id="lone low surrogate"),
        pytest.param(b'{"cmd":"show","id":"\xed\xa0\x80"}', id="surrogate in UTF-8"),
        pytest.param(b'{"cmd":"show","id":NaN}', id="NaN"),
        pytest.param(b'{"cmd":"ping","x":' + b"[" * 8000 + b"]" * 8000 + b"}", id="deep arrays"),
        pytest.param(b'{"cmd":' + b'{"a":' * 3000, id="deep objects"),
        pytest.param(b'{"cmd":"show","id":5,', id="wrong and cut short"),
    ],
)
def test_a_line_that_is_not_json_is_a_bad_frame(line: bytes) -> None:
    error = refused(line)
    assert error.code == "bad_frame"
    assert error.message.startswith("this line is not JSON: ")
    assert not UNSAFE.search(error.message)


@given(st.binary())
def test_bytes_that_start_like_json_decode_or_are_refused(garbage: bytes) -> None:
    decodes_or_is_refused_well(b"{" + garbage)


@given(REQUESTS, st.lists(st.tuples(st.integers(1, 300), st.integers(0, 3), st.binary(max_size=3)), min_size=1))
def test_a_mutated_request_decodes_or_is_refused(request: Request, edits: list[tuple[int, int, bytes]]) -> None:
    line = encode(request)
    for place, taken, put in edits:
        start = 1 + place % len(line)
        line = line[:start] + put + line[start + taken :]
    decodes_or_is_refused_well(line)


@given(st.sampled_from(list(commands())), st.dictionaries(st.sampled_from(FIELDS) | st.text(st.characters()), JSON))
def test_any_values_in_any_fields_decode_or_are_refused(cmd: str, fields: dict[str, object]) -> None:
    decodes_or_is_refused_well(json.dumps({"cmd": cmd} | fields).encode())


@pytest.mark.parametrize(
    ("frame", "request_"),
    [
        (b'{"cmd":"list","cmd":"ping"}', Ping()),
        (b'{"cmd":"nope","cmd":"list"}', List()),
        (b'{"cmd":5,"cmd":"list"}', List()),
        (b'{"cmd":"book","event":"1","quantity":0,"quantity":2}', Book("1", 2)),
    ],
)
def test_the_last_of_repeated_fields_counts(frame: bytes, request_: Request) -> None:
    assert decode(frame) == request_


@pytest.mark.parametrize("depth", [100, 900, 960, 980, 990, 995, 1_000, 1_010])
def test_nesting_of_any_depth_is_refused_without_a_crash(depth: int) -> None:
    for head in (b'{"cmd":"show","id":', b'{"cmd":'):
        with pytest.raises(TicketError) as refused:
            decode(head + b"[" * depth + b"]" * depth + b"}")
        assert refused.value.code in ("bad_request", "bad_frame", "unknown_command")


def test_a_number_of_thousands_of_digits_is_a_bad_request() -> None:
    with pytest.raises(TicketError) as refused:
        decode(b'{"cmd":"book","event":"1","quantity":' + b"9" * 5_000 + b"}")
    assert refused.value.code == "bad_request"


@pytest.mark.parametrize(
    "line", [b'{"cmd":"book","event":1,"quantity":2}', b'{"cmd":"book","event":null,"quantity":2}']
)
def test_a_value_without_its_quotes_is_refused_in_words(line: bytes) -> None:
    value = "1" if b"1" in line else "null"
    assert refused(line).message == f"event must be a string, in quotes, not {value}"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *(("boook", "book"), ("hlep", "help"), ("LIST", "list"), ("cretae", "create"), ("ls", "list"), ("[]", None)),
        ("amnul", "annul or amend"),
    ],
)
def test_a_mistyped_command_is_asked_about_and_not_run(typed: str, meant: str | None) -> None:
    question = f"did you mean {meant}? " if meant else ""
    assert unknown_command(typed).message == f'there is no command "{typed}"; {question}help lists the commands'


@pytest.mark.parametrize("typed", ["", "x", "b" * 21, 5, None, "nonsense"])
def test_nothing_is_guessed_of_what_is_no_name(typed: object) -> None:
    assert "did you mean" not in unknown_command(typed).message
