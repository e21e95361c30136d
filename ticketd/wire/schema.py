"""Derives from a request Struct the fields, usage and help of its command, and explains values that do not fit.

Knows no particular command: those are in ``requests``.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct, structs

from ticketd.model import printable
from ticketd.wire.replies import CommandHelp, FieldHelp
from ticketd.wire.requests.base import Request
from ticketd.wire.text import listed

_SHOWN_CHARS_MAX = 40
# Every command has these, so the help of none lists them.
_COMMON_FIELDS = Request.__struct_fields__


class Field:
    """One field of a command: its name, its Python type, what a value must be, and what it is for."""

    def __init__(self, name: str, annotation: Any, required: bool) -> None:
        self.name = name
        self.required = required
        # The type of an optional field is the union of an Annotated type, UnsetType, and NoneType if it can be cleared.
        annotated = annotation if hasattr(annotation, "__metadata__") else get_args(annotation)[0]
        self.clearable = NoneType in get_args(annotation)
        self.type: Any = get_origin(annotated.__origin__) or annotated.__origin__
        metas: tuple[Meta, ...] = annotated.__metadata__
        self.must_be = must_be(annotated) + (", or none" if self.clearable else "")
        self.description = next(meta.description for meta in metas if meta.description)
        extra = {name: value for meta in metas for name, value in (meta.extra or {}).items()}
        self.positional = required or bool(extra.get("positional"))
        # All the values that it takes, if they are few.
        self.choices = _choices(annotated)
        # What a shell can complete in this field: "commands", or ids: "events", "bookings", "tickets", or all "ids".
        self.completes: str | None = extra.get("completes")
        # No message repeats what was given for it.
        self.is_secret = bool(extra.get("secret"))
        if self.choices:
            self.metavar = "|".join(self.choices)
        elif self.positional:
            self.metavar = name.upper()
        else:
            pattern = any(meta.pattern for meta in metas)
            self.metavar = "ID" if pattern else {int: "N", list: "ID,ID", datetime: "TIME"}.get(self.type, name.upper())

    @property
    def option(self) -> str:
        """Its name as people type it after ``--``."""
        return self.name.replace("_", "-")

    @property
    def usage(self) -> str:
        """The field as it is typed: ``EVENT``, ``[COMMAND]``, ``[--booking ID]`` or ``[--[no-]late]``."""
        if self.type is bool:
            return f"[--[no-]{self.option}]"
        typed = self.metavar if self.positional else f"--{self.option} {self.metavar}"
        return typed if self.required else f"[{typed}]"


def must_be(annotated: Any) -> str:
    """Return what a value of an Annotated type must be: the title of the type, its values, or its bounds in words."""
    metas: tuple[Meta, ...] = annotated.__metadata__
    if title := next((meta.title for meta in metas if meta.title), None):
        return title
    if choices := _choices(annotated):
        return f"one of {listed(choices)}"
    [bounds] = [meta for meta in metas if meta.le is not None]
    if annotated.__origin__ is int:
        return f"a whole number from {bounds.ge} to {bounds.le}"
    return f"a number above {bounds.gt}, up to {bounds.le}"


def _choices(annotated: Any) -> Sequence[str]:
    return get_args(annotated.__origin__) if get_origin(annotated.__origin__) is Literal else ()


class Command:
    """A command as its Struct defines it. ``summary`` is the first line of the docstring."""

    def __init__(self, request: type[Struct]) -> None:
        self.request = request
        self.name = str(request.__struct_config__.tag)
        self.summary = (request.__doc__ or "").partition("\n")[0]
        hints = get_type_hints(request, include_extras=True)
        required = [field.name for field in structs.fields(request) if field.required]
        every = [Field(name, hints[name], name in required) for name in request.__struct_fields__]
        self.fields = [field for field in every if field.name not in _COMMON_FIELDS]
        self._common = [field for field in every if field.name in _COMMON_FIELDS]

    @property
    def usage(self) -> str:
        """The command as it is typed, such as ``book EVENT QUANTITY [--booking ID]``."""
        return " ".join([self.name, *(field.usage for field in self.fields)])

    @cached_property
    def help(self) -> CommandHelp:
        """The command as ``help`` shows it."""
        fields = [FieldHelp(field.name, field.required, field.must_be, field.description) for field in self.fields]
        return CommandHelp(self.name, self.usage, self.summary, fields)

    def explain(self, wrong: str, given: dict[str, object]) -> str:
        """Reword msgspec's message about the given fields so that it helps the person who sent them."""
        if match := re.fullmatch(r"Object missing required field `(\w+)`", wrong):
            field = next(field for field in self.fields if field.name == match[1])
            return f"{self.name} needs {field.name}: {field.description}, {field.must_be}; usage: {self.usage}"
        if match := re.fullmatch(r"Object contains unknown field `(.*)`", wrong, re.DOTALL):
            takes = listed(field.name for field in self.fields) or "no fields"
            return f"{self.name} has no field {shown(match[1])}; it takes {takes}"
        # `$.field` is the field itself, `$.field[...]` something inside it.
        if match := re.search(r" - at `\$\.(\w+)", wrong):
            for field in (*self.fields, *self._common):
                if field.name == match[1]:
                    value = given.get(field.name)
                    given_text = "" if field.is_secret else f", not {shown(value)}"
                    is_bare = field.type is str and not isinstance(value, str)
                    return f"{field.name} must be {'a string, in quotes' if is_bare else field.must_be}{given_text}"
        # The message comes from a Struct's __post_init__, and names the field already.
        return wrong.partition(" - at `$")[0]


def quoted(text: str) -> str:
    """Return text in quotes, escaped so that it can neither end the quotes nor begin a new line."""
    return '"' + printable(text.replace("\\", r"\\").replace('"', r"\"")) + '"'


def shown(value: object) -> str:
    """Return a received value, ready for a message: on one line, escaped, and cut after _SHOWN_CHARS_MAX characters."""
    match value:
        case str():
            text = quoted(value)
        case dict():
            text = "an object"
        case list():
            text = "an array"
        case _:
            text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN_CHARS_MAX else f"{text[:_SHOWN_CHARS_MAX]}..."
