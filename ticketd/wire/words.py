"""The same requests typed as words: ``book 1 2``, ``create "Jazz Night" 2027-03-11T20:00:00Z 100``. Pure.

The grammar comes from the Structs in ``requests``: positional fields are words in their order, the others are
``--name value`` or ``--name=value``, anywhere; true is ``--name``, false is ``--no-name``, and the word ``none`` clears
a field that can be cleared. After ``--`` every word is taken literally. Quotes and backslashes work as in the POSIX
shell.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ticketd.errors import TicketError
from ticketd.wire.codec import from_fields
from ticketd.wire.commands import commands, unknown_command
from ticketd.wire.requests import Request
from ticketd.wire.schema import Field, shown

# Only names need quotes, and no request with a name is longer. For a line of 16 KiB, shlex would take milliseconds, in
# which nobody else is served.
QUOTED_CHARS_MAX = 2_048


def split(line: str) -> list[str]:
    """Return the words of a line, without their quotes. Raises TicketError (bad_request) if a quote is not closed."""
    if not re.search(r"['\"\\]", line):
        return [word for word in re.split(r"[ \t\r\n]+", line) if word]
    if len(line) > QUOTED_CHARS_MAX:
        raise TicketError("bad_request", f"words with quotes may have {QUOTED_CHARS_MAX} characters; send JSON instead")
    try:
        return shlex.split(line)
    except ValueError as error:
        raise TicketError("bad_request", f"{error}: a quote needs its end, or a backslash before it") from None


def decode(line: bytes) -> Request:
    """Return the request in a line of words. Raises TicketError (bad_frame, bad_request or unknown_command)."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise TicketError("bad_frame", "this line is not UTF-8; send UTF-8, words or one JSON object a line") from None
    return parse(split(text))


def parse(words: list[str], read: Callable[[Field, str], object] | None = None) -> Request:
    """Return the request that the words mean. Raises TicketError (bad_frame, bad_request or unknown_command).

    ``read`` returns the value of a field for its word, as ``value`` does.
    """
    read = read or value
    if re.search("[\ud800-\udfff]", "".join(words)):
        raise TicketError("bad_frame", "this is not UTF-8; send UTF-8")
    name, *rest = words
    command = commands().get(name)
    if command is None:
        raise unknown_command(name)
    fields = {field.option: field for field in command.fields if not field.positional}
    positional = [field for field in command.fields if field.positional]
    given: dict[str, object] = {"cmd": name}
    options_end = False
    while rest:
        word = rest.pop(0)
        if not options_end and word == "--":
            options_end = True
        elif not options_end and word.startswith("--"):
            option, equals, word = word[2:].partition("=")
            if (flag := _flag(fields, option)) and not equals:
                given[flag.name] = option == flag.option
                continue
            if option not in fields:
                raise TicketError("bad_request", f"{name} has no option {shown('--' + option)}; usage: {command.usage}")
            if not equals:
                if not rest:
                    raise TicketError("bad_request", f"--{option} needs a value; usage: {command.usage}")
                word = rest.pop(0)
            given[fields[option].name] = read(fields[option], word)
        elif positional:
            field = positional.pop(0)
            given[field.name] = read(field, word)
        else:
            hint = " (put quotes around a name or a time with spaces)" if "name" in given else ""
            it = "this" if any(field.is_secret for field in command.fields) else shown(word)
            raise TicketError("bad_request", f"{it} is one word too many{hint}; usage: {command.usage}")
    return from_fields(given)


def unparse(request: Request) -> list[str]:
    """Return words that ``parse`` turns back into the request. What is so anyway is left out."""
    command = commands()[str(request.__struct_config__.tag)]
    values: dict[str, Any] = msgspec.to_builtins(request)
    defaults = {field.name: field.default for field in msgspec.structs.fields(request)}
    options: list[str] = []
    words: list[str] = []
    for field in command.fields:
        given = getattr(request, field.name)
        if given == defaults[field.name]:
            continue
        word = _word(field, values[field.name])
        if field.positional:
            words.append(word)
        elif field.type is bool:
            options.append(f"--{field.option}" if values[field.name] else f"--no-{field.option}")
        else:
            options += [f"--{field.option}={word}"] if word.startswith("-") else [f"--{field.option}", word]
    if any(word.startswith("-") for word in words):
        return [command.name, *options, "--", *words]
    return [command.name, *words, *options]


def _flag(fields: Mapping[str, Field], option: str) -> Field | None:
    """Return the field that an option without a value sets to true or false, or None."""
    field = fields.get(option) or fields.get(option.removeprefix("no-"))
    return field if field and field.type is bool else None


def _word(field: Field, value: Any) -> str:
    if value is None:
        return "none"
    return ",".join(value) if field.type is list else str(value)


def value(field: Field, word: str) -> object:
    """Return the value that a word stands for in this field. If it is none, its type refuses it later."""
    if field.clearable and word == "none":
        return None
    if field.type is bool and word in ("true", "false"):
        return word == "true"
    # int() accepts more than JSON does, such as 1_000. Such a word stays text, which its type refuses later.
    if field.type is int and re.fullmatch(r"-?[0-9]{1,20}", word):
        return int(word)
    if field.type is list:
        return word.split(",")
    return word
