"""What a request Struct declares, read once: its fields, its usage, and what is wrong with values that do not fit.

Knows nothing of the commands: ``protocol`` declares those.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from ticketd.model import printable

_SHOWN_CHARS_MAX = 40


class Field:
    """One field of a command: its name, its Python type, what a value must be, and what it is for."""

    def __init__(self, name: str, annotation: Any, required: bool) -> None:
        self.name = name
        self.required = required
        # A field that may be left out is a union of UnsetType with the Annotated type.
        annotated = annotation if hasattr(annotation, "__metadata__") else get_args(annotation)[0]
        self.type: Any = get_origin(annotated.__origin__) or annotated.__origin__
        metas: tuple[Meta, ...] = annotated.__metadata__
        self.must_be = next(meta.title for meta in metas if meta.title)
        self.description = next(meta.description for meta in metas if meta.description)
        extra = {name: value for meta in metas for name, value in (meta.extra or {}).items()}
        self.positional = required or bool(extra.get("positional"))
        # What a shell can offer where this field is typed: "events" or "commands".
        self.completes: str | None = extra.get("completes")
        # Too much for a word: it is typed as it stands on the wire.
        self.json = bool(extra.get("json"))
        if self.positional:
            self.metavar = name.upper()
        else:
            typed = {int: "N", list: "ID,ID", datetime: "TIME"}
            pattern = any(meta.pattern for meta in metas)
            self.metavar = "ID" if pattern else "JSON" if self.json else typed.get(self.type, name.upper())

    @property
    def usage(self) -> str:
        """The field as it is typed: ``EVENT``, ``[COMMAND]`` or ``[--booking ID]``."""
        typed = self.metavar if self.positional else f"--{self.name} {self.metavar}"
        return typed if self.required else f"[{typed}]"


class Command:
    """A command as its Struct declares it. ``summary`` is the first line of the docstring."""

    def __init__(self, request: type[Struct]) -> None:
        self.request = request
        self.name = str(request.__struct_config__.tag)
        self.summary = (request.__doc__ or "").partition("\n")[0]
        hints = get_type_hints(request, include_extras=True)
        names = request.__struct_fields__
        required = names[: len(names) - len(request.__struct_defaults__)]
        self.fields = [Field(name, hints[name], name in required) for name in names]

    @property
    def usage(self) -> str:
        """The command as it is typed, such as ``book EVENT QUANTITY [--booking ID]``."""
        return " ".join([self.name, *(field.usage for field in self.fields)])

    def explain(self, wrong: str, given: dict[str, object]) -> str:
        """Return msgspec's words for what is wrong with the given fields in words that help whoever sent them."""
        if match := re.fullmatch(r"Object missing required field `(\w+)`", wrong):
            field = next(field for field in self.fields if field.name == match[1])
            return f"{self.name} needs {field.name}: {field.description}, {field.must_be}; usage: {self.usage}"
        if match := re.fullmatch(r"Object contains unknown field `(.*)`", wrong, re.DOTALL):
            takes = listed(field.name for field in self.fields) or "no fields"
            return f"{self.name} has no field {shown(match[1])}; it takes {takes}"
        # `$.field` is the field itself, `$.field[...]` something within it.
        if match := re.search(r" - at `\$\.(\w+)", wrong):
            for field in self.fields:
                if field.name == match[1]:
                    return f"{field.name} must be {field.must_be}, not {shown(given.get(field.name))}"
        # What a Struct's __post_init__ said, which names the field itself.
        return wrong.partition(" - at `$")[0]


def quoted(text: str) -> str:
    """Return text in quotes, escaped so that it can neither end the quotes nor begin a new line."""
    return '"' + printable(text.replace("\\", r"\\").replace('"', r"\"")) + '"'


def shown(value: object) -> str:
    """Return a value that somebody sent as it can stand in a message: on one line, escaped and not too long."""
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


def listed(names: Iterable[str]) -> str:
    """Return names as a list in a sentence."""
    return ", ".join(names)
