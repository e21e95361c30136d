"""The tag that a request may have: what it may be, which refused lines give it back, and how it is put into a reply."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from tests.wire.strategies import REQUESTS
from ticketd.errors import TicketError
from ticketd.wire import codec, words
from ticketd.wire.replies import ErrorReply, PongReply
from ticketd.wire.requests import Amend, Ping, Request
from ticketd.wire.requests.fields import TAG_CHARS_MAX

TAGS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=TAG_CHARS_MAX)


@given(REQUESTS, TAGS)
def test_any_request_may_have_any_tag(request: Request, tag: str) -> None:
    tagged = msgspec.structs.replace(request, tag=tag)
    frame = codec.encode(tagged)
    assert codec.decode(frame) == tagged
    assert codec.decode(frame) != request
    # It means the same, and words leave the tag out.
    assert words.unparse(tagged) == words.unparse(request)


def test_a_request_without_a_tag_is_as_long_as_before() -> None:
    assert codec.encode(Ping()) == b'{"cmd":"ping"}'
    assert Ping().tag is UNSET


def test_a_tag_is_no_change_of_an_event() -> None:
    assert Amend("jazz", "Bebop", tag="a").given == {"name": "Bebop"}
    with pytest.raises(ValueError, match="nothing to change"):
        Amend("jazz", tag="a")


@pytest.mark.parametrize("tag", ["", "x" * (TAG_CHARS_MAX + 1), 5, None, True, ["a"], {}])
def test_what_is_no_tag_is_refused_without_one(tag: Any) -> None:
    with pytest.raises(TicketError, match=r"^tag must be (1 to 64 characters|a string, in quotes), not ") as refused:
        codec.decode(msgspec.json.encode({"cmd": "ping", "tag": tag}))
    assert (refused.value.code, refused.value.tag) == ("bad_request", None)


@pytest.mark.parametrize(
    ("line", "code", "tag"),
    [
        ('{"cmd":"book","tag":"a","event":"1"}', "bad_request", "a"),
        ('{"cmd":"ping","nope":{"tag":"b"},"tag":"a"}', "bad_request", "a"),
        ('{"tag":"a","cmd":"pong"}', "unknown_command", "a"),
        ('{"tag":"a"}', "bad_request", "a"),
        ('{"cmd":5,"tag":"a"}', "unknown_command", "a"),
        ('{"cmd":"ping","tag":"a","tag":"b","x":1}', "bad_request", "b"),
        ('{"cmd":"ping","tag":"a","tag":"","x":1}', "bad_request", None),
        ('{"cmd":"list","limit":' + "9" * 40 + ',"tag":"a"}', "bad_request", "a"),
        # Such a number cannot be read at all.
        ('{"cmd":"list","limit":' + "9" * 5_000 + ',"tag":"a"}', "bad_request", None),
        ('{"cmd":"list","limit":' + "9" * 5_000 + ',"tag":"a"', "bad_request", None),
        # It is not JSON, so nothing in it counts.
        ('{"cmd":"ping","tag":"a"', "bad_frame", None),
        ('{"cmd":"ping","tag":"a",}', "bad_frame", None),
        ('{"cmd":"ping","tag":"\\ud800"}', "bad_frame", None),
    ],
)
def test_a_refused_line_gives_its_tag_back(line: str, code: str, tag: str | None) -> None:
    with pytest.raises(TicketError) as refused:
        codec.decode(line.encode())
    assert (refused.value.code, refused.value.tag) == (code, tag)


@pytest.mark.parametrize("typed", [b"ping --tag a", b"book 1 1 --tag=a"])
def test_words_have_no_tag(typed: bytes) -> None:
    with pytest.raises(TicketError, match='has no option "--tag"'):
        words.decode(typed)


@given(st.lists(st.text(), min_size=1, max_size=4), TAGS)
def test_every_line_of_a_reply_gets_the_tag(messages: list[str], tag: str) -> None:
    replies = [ErrorReply("internal", message) for message in messages]
    lines = b"".join(codec.encode(reply) + b"\n" for reply in replies)
    assert codec.tagged(lines, UNSET) == lines
    tagged = codec.tagged(lines, tag).split(b"\n")
    assert tagged.pop() == b""
    assert [codec.decode_reply(line) for line in tagged] == replies
    assert [msgspec.json.decode(line)["tag"] for line in tagged] == [tag] * len(replies)


def test_a_tag_stands_at_the_end_of_a_reply() -> None:
    # What looks only at the beginning of a reply, such as a balancer, sees no difference.
    assert codec.tagged(codec.encode(PongReply()) + b"\n", 'a"') == b'{"reply":"pong","tag":"a\\""}\n'
    assert codec.encode(PongReply())[:-1] + codec.tag_end("a") == b'{"reply":"pong","tag":"a"}\n'
