"""Decodes and encodes requests and replies as lines of JSON, and explains what is wrong with a line. Pure."""

from collections.abc import Callable, Iterable
from typing import Any, Union

import msgspec
from msgspec import UnsetType

from ticketd.errors import TicketError
from ticketd.wire.commands import commands, unknown_command
from ticketd.wire.replies import Reply, error_reply
from ticketd.wire.requests import Request
from ticketd.wire.requests.fields import TAG_CHARS_MAX

# The unions of all requests and all replies. Their Structs must be defined before this module is imported.
_AnyRequest: Any = Union[tuple(command.request for command in commands().values())]  # noqa: UP007
_AnyReply: Any = Union[tuple(Reply.__subclasses__())]  # noqa: UP007

_decode_request: Callable[[bytes], Request] = msgspec.json.Decoder(_AnyRequest).decode
_decode_reply: Callable[[bytes], Reply] = msgspec.json.Decoder(_AnyReply).decode
encode = msgspec.json.Encoder().encode


def decode(frame: bytes) -> Request:
    """Return the request in a line of JSON. Raises TicketError (bad_frame, bad_request or unknown_command)."""
    try:
        return _decode_request(frame)
    except msgspec.ValidationError:
        # If a field is repeated, the last one counts, but the typed decoder stops at the first bad one. Decode again.
        fields = _fields(frame)
        try:
            return from_fields(fields)
        except TicketError as error:
            error.tag = _tag_of(fields)
            raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_json(error) from None


def _fields(frame: bytes) -> dict[str, object]:
    try:
        fields: dict[str, object] = msgspec.json.decode(frame)
    except msgspec.ValidationError:
        raise TicketError("bad_request", "a number has more digits than any field takes") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_json(error) from None
    return fields


def _tag_of(fields: dict[str, object]) -> str | None:
    tag = fields.get("tag")
    return tag if isinstance(tag, str) and 1 <= len(tag) <= TAG_CHARS_MAX else None


def from_fields(fields: dict[str, object]) -> Request:
    """Return the request with these fields, ``cmd`` included. Raises TicketError (bad_request or unknown_command)."""
    cmd = fields.get("cmd")
    command = commands().get(cmd) if isinstance(cmd, str) else None
    try:
        # Convert to the type of the command, which msgspec caches; it would analyze the union again for every request.
        kind: Any = command.request if command else _AnyRequest
        request: Request = msgspec.convert(fields, type=kind)
    except msgspec.ValidationError as error:
        raise _explain(str(error), fields) from None
    return request


def decode_reply(frame: bytes) -> Reply:
    """Return the reply in a line, ignoring unknown fields. Raises msgspec.DecodeError."""
    return _decode_reply(frame)


def tag_end(tag: str) -> bytes:
    """Return the end of a reply with a tag: what stands there in place of the last brace and the end of the line."""
    return b',"tag":%b}\n' % encode(tag)


def tagged(lines: bytes, tag: str | UnsetType | None) -> bytes:
    """Return encoded replies, whole lines, with a tag in each of them if there is one."""
    # Within a line, no brace is followed by LF.
    return lines.replace(b"}\n", tag_end(tag)) if tag else lines


def error_line(error: TicketError) -> bytes:
    """Return an error as the line that tells a client of it."""
    return tagged(encode(error_reply(error)) + b"\n", error.tag)


def encode_events(facts: Iterable[bytes], *, more: bool) -> bytes:
    """Return an encoded EventsReply, made of events that are encoded already."""
    return b'{"reply":"events","events":[%b]%b}' % (b",".join(facts), b',"more":true' if more else b"")


def encode_event(facts: bytes) -> bytes:
    """Return an encoded EventReply, made of an event that is encoded already."""
    return b'{"reply":"event",' + facts[1:]


def bad_json(error: Exception) -> TicketError:
    """Return the error for a line that begins like JSON but is not."""
    match error:
        case RecursionError():
            what = "it is nested too deeply"
        case UnicodeDecodeError():
            what = "it is not UTF-8"
        case _:
            what = str(error).removeprefix("JSON is malformed: ")
    return TicketError("bad_frame", f'this line is not JSON: {what}; send one object a line, such as {{"cmd":"list"}}')


def _explain(wrong: str, given: dict[str, object]) -> TicketError:
    """Turn msgspec's message about a request into an error that names the field and its bounds."""
    if "cmd" not in given:
        return TicketError("bad_request", 'cmd is missing; it is the name of a command, as in {"cmd":"help"}')
    command = commands().get(given["cmd"]) if isinstance(given["cmd"], str) else None
    if command is None:
        return unknown_command(given["cmd"])
    return TicketError("bad_request", command.explain(wrong, given))
