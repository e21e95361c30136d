"""What the Structs say of their commands: help, and what is wrong with a request, in words."""

import json

import pytest

from tests.wire.frames import book, frame, refused
from ticketd.errors import TicketError
from ticketd.model import UNSAFE
from ticketd.wire.codec import decode
from ticketd.wire.commands import commands, help_reply
from ticketd.wire.requests import Help, Request


@pytest.mark.parametrize("cmd", ["nope", "LIST", "list ", "", "a\nb\u202e", None, 5, True, ["list"], {"a": 1}])
def test_an_unknown_command_is_refused_and_help_is_named(cmd: object) -> None:
    error = refused(json.dumps({"cmd": cmd}).encode())
    assert error.code == "unknown_command"
    assert error.message.endswith("help lists the commands")
    assert not UNSAFE.search(error.message)


@pytest.mark.parametrize("line", [b"{}", b'{"id":"1"}', b'{"CMD":"list"}', b'{"cmd ":"list"}'])
def test_a_request_without_cmd_asks_for_it(line: bytes) -> None:
    error = refused(line)
    assert (error.code, error.message[:14]) == ("bad_request", "cmd is missing")


@pytest.mark.parametrize(
    ("name", "field"),
    [(name, field.name) for name, command in commands().items() for field in command.fields if field.required],
)
def test_a_missing_field_is_named(name: str, field: str) -> None:
    good: dict[str, object] = {"name": "x", "date": "2027-03-11T20:00:00Z", "capacity": 1, "id": "1"}
    good |= {"event": "1", "quantity": 1, "booking": "b", "ticket": "t", "seconds": 1, "token": "t" * 43}
    given = {other.name: good[other.name] for other in commands()[name].fields if other.required}
    given |= {"capacity": 1} if name == "amend" else {}
    decode(frame(name, **given))
    error = refused(frame(name, **{other: value for other, value in given.items() if other != field}))
    assert error.code == "bad_request"
    assert error.message.startswith(f"{name} needs {field}: ")


@pytest.mark.parametrize("field", ["Event", "qty", "", "a`b", "x\ny", "\u202e", "x" * 500])
def test_an_unknown_field_is_refused_with_the_known_ones(field: str) -> None:
    error = refused(book(**{field: 1}))
    assert error.code == "bad_request"
    assert error.message.startswith("book has no field ")
    assert error.message.endswith("; it takes event, quantity, booking, buyer")
    assert len(error.message) < 120
    assert not UNSAFE.search(error.message)


def test_help_explains_every_command_with_every_field() -> None:
    explained = {help_.command: help_ for help_ in help_reply(Help()).commands}
    requests = {str(request.__struct_config__.tag): request for request in Request.__subclasses__()}
    assert explained.keys() == requests.keys()
    for name, request in requests.items():
        fields = explained[name].fields
        # The last one is the tag, which all have and none explains.
        assert (*(field.name for field in fields), "tag") == request.__struct_fields__
        assert [field.required for field in fields].count(False) == len(request.__struct_defaults__) - 1
        assert all(field.must_be and field.description for field in fields)
        assert explained[name].usage.split()[0] == name
        assert explained[name].summary.endswith(".")
        assert help_reply(Help(name)).commands == [explained[name]]


def test_help_for_an_unknown_command_names_help() -> None:
    with pytest.raises(TicketError) as raised:
        help_reply(Help("nope\n"))
    assert raised.value.code == "unknown_command"
    assert raised.value.message.endswith("help lists the commands")
    assert not UNSAFE.search(raised.value.message)
