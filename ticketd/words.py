"""The same requests typed as words: ``book 1 2``, ``create "Jazz Night" 2027-03-11T20:00:00Z 100``. Pure.

The grammar comes from the declarations in ``protocol``: required fields are words in their order, the others are
``--name value`` or ``--name=value`` anywhere. After ``--`` every word is taken as it is. Quotes are those of the shell.
"""

import re
import shlex
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import UNSET

from ticketd.declared import Field, shown
from ticketd.errors import TicketError
from ticketd.protocol import COMMANDS, Request, from_fields, unknown_command

# No request with bounds such as ours is longer; shlex takes milliseconds for a line of 16 KiB, which others would wait.
QUOTED_CHARS_MAX = 2_048


def split(line: str) -> list[str]:
    """Return the words of a line, quotes taken off, or raise TicketError (bad_request) for a quote without its end."""
    if not re.search(r"['\"\\]", line):
        return [word for word in re.split(r"[ \t\r\n]+", line) if word]
    if len(line) > QUOTED_CHARS_MAX:
        raise TicketError("bad_request", f"words with quotes may have {QUOTED_CHARS_MAX} characters; send JSON instead")
    try:
        return shlex.split(line)
    except ValueError as error:
        raise TicketError("bad_request", f"{error}: a quote needs its end, or a backslash before it") from None


def decode(line: bytes) -> Request:
    """Return the request that a line of words holds, or raise TicketError that says what is wrong with it."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise TicketError("bad_frame", "this line is not UTF-8; send UTF-8, words or one JSON object a line") from None
    return parse(split(text))


def parse(words: list[str]) -> Request:
    """Return the request that the words mean, or raise TicketError that says what is wrong with them."""
    if re.search("[\ud800-\udfff]", "".join(words)):
        raise TicketError("bad_frame", "this is not UTF-8; send UTF-8")
    name, *rest = words
    command = COMMANDS.get(name)
    if command is None:
        raise unknown_command(name)
    fields = {field.name: field for field in command.fields if not field.positional}
    positional = [field for field in command.fields if field.positional]
    given: dict[str, object] = {"cmd": name}
    options = True
    while rest:
        word = rest.pop(0)
        if options and word == "--":
            options = False
        elif options and word.startswith("--"):
            option, equals, value = word[2:].partition("=")
            if option not in fields:
                raise TicketError("bad_request", f"{name} has no option {shown('--' + option)}; usage: {command.usage}")
            if not equals:
                if not rest:
                    raise TicketError("bad_request", f"--{option} needs a value; usage: {command.usage}")
                value = rest.pop(0)
            given[option] = _value(fields[option], value)
        elif positional:
            field = positional.pop(0)
            given[field.name] = _value(field, word)
        else:
            hint = " (put quotes around a name with spaces)" if "name" in given else ""
            raise TicketError("bad_request", f"{shown(word)} is one word too many{hint}; usage: {command.usage}")
    return from_fields(given)


def unparse(request: Request) -> list[str]:
    """Return the words that parse to the request."""
    command = COMMANDS[str(request.__struct_config__.tag)]
    values: dict[str, Any] = msgspec.to_builtins(request)
    options: list[str] = []
    words: list[str] = []
    for field in command.fields:
        if getattr(request, field.name) is UNSET:
            continue
        value = _word(field, values[field.name])
        if field.positional:
            words.append(value)
        else:
            options += [f"--{field.name}={value}"] if value.startswith("-") else [f"--{field.name}", value]
    separator = ["--"] if any(word.startswith("-") for word in words) else []
    return [command.name, *options, *separator, *words]


def _word(field: Field, value: Any) -> str:
    if field.json:
        return msgspec.json.encode(value).decode()
    return ",".join(value) if field.type is list else str(value)


def _value(field: Field, word: str) -> object:
    # Python's int() takes more than the JSON of the wire does, such as 1_000; what is left as text is refused by type.
    if field.type is int and re.fullmatch(r"-?[0-9]{1,20}", word):
        return int(word)
    if field.json:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return msgspec.json.decode(word)
        return word
    if field.type is list:
        return word.split(",")
    return word
