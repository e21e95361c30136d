"""Writes the methods of ``Client`` and ``AsyncClient`` for the commands: ``python -m tests.typed_methods``.

They are made from the Structs of the requests, and written out so that people and type checkers can read them.
"""

import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import UNSET, structs

from ticketd.wire.commands import commands
from ticketd.wire.replies import PongReply
from ticketd.wire.requests import Auth
from ticketd.wire.schema import Command, Field

FOLDER = Path(__file__).parent.parent / "ticketctl"
BLOCKING, ASYNC = "methods.py", "async_methods.py"

HEAD = '''"""The methods of ``{client}`` for commands, made by ``python -m tests.typed_methods``: do not edit them."""

from collections.abc import {generator}, Sequence
from datetime import datetime
from typing import Any, Literal, overload

from msgspec import UNSET, UnsetType

from ticketctl.arguments import given, given_list
from ticketd.wire.replies import {replies}
from ticketd.wire.requests import {requests}


class {name}:
    """A method for each command that sends it, and returns its reply. See ``{client}`` for what they raise.

    What is None is left out; in ``create`` and ``amend``, it says that there is none, and UNSET is left out.
    """

    {def_} call(self, request: Request) -> Any:
        """Send a request, and return its reply."""
        raise NotImplementedError

    def follow(self, request: Request) -> {of_any}:
        """Send a request that has many replies, and return them."""
        raise NotImplementedError
'''
TYPES: dict[Any, str] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    datetime: "datetime",
    list: "Sequence[str]",
}


def module(file: str) -> str:
    """Return what must stand in one of the files."""
    is_async = file == ASYNC
    # Each connection says by itself who it is.
    called = [command for command in commands().values() if command.request is not Auth]
    text = HEAD.format(
        client="AsyncClient" if is_async else "Client",
        name="AsyncMethods" if is_async else "Methods",
        generator="AsyncGenerator" if is_async else "Generator",
        of_any=many("Any", is_async=is_async),
        def_="async def" if is_async else "def",
        replies=", ".join(sorted({name for command in called for name in replies(command)})),
        requests=", ".join(sorted({"Request", *(command.request.__name__ for command in called)})),
    ) + "".join(method(command, is_async=is_async) for command in called)
    return formatted(text)


def replies(command: Command) -> list[str]:
    """Return the names of the replies that a command is answered with; heartbeats are not handed out."""
    request: Any = command.request
    return [reply.__name__ for reply in request.replies if not (request.streams and reply is PongReply)]


def method(command: Command, *, is_async: bool) -> str:
    """Return the method for a command, with its overloads."""
    request: Any = command.request
    kinds = " | ".join(replies(command))
    values = [f"{'' if field.required else f'{field.name}='}{value(request, field)}" for field in command.fields]
    sent = f"{request.__name__}({', '.join(values)})"
    parameters = {field.name: parameter(request, field) for field in command.fields}
    async_, await_ = ("async ", "await ") if is_async else ("", "")
    if request.streams:
        async_, kinds = "", many(kinds, is_async=is_async)
        body = f"return self.follow({sent})"
    else:
        body = f"reply: {kinds} = {await_}self.call({sent})\n        return reply"
    signatures = [signature(command, parameters, kinds)]
    if request.streams:
        signatures = [*of_each_kind(command, parameters, is_async=is_async)]
    for field in command.fields:
        # A field that says which kind of reply is wanted.
        for choice in field.choices:
            if reply := of_kind(command, choice):
                chosen = {**parameters, field.name: f'{field.name}: Literal["{choice}"]'}
                signatures.insert(-1, signature(command, chosen, reply))
    overloads = [*signatures, signature(command, parameters, kinds)] if len(signatures) > 1 else signatures
    text = "".join(f"\n    @overload\n    {async_}def {each}: ...\n" for each in overloads[:-1])
    return f'{text}\n    {async_}def {overloads[-1]}:\n        """{command.summary}"""\n        {body}\n'


def of_each_kind(command: Command, parameters: dict[str, str], *, is_async: bool) -> Iterator[str]:
    """Yield the signatures of a stream of each kind: the field with its name asks for it; without any, the first."""
    for number, reply in enumerate(replies(command)):
        request: Any = command.request
        kind = request.replies[number].__struct_config__.tag
        asking = parameters[kind] if number == 0 else f"{kind}: {TYPES[str]}"
        yield signature(command, {kind: asking}, many(reply, is_async=is_async))


def many(kinds: str, *, is_async: bool) -> str:
    """Return the type of a stream of these, which its caller may close."""
    return f"AsyncGenerator[{kinds}, None]" if is_async else f"Generator[{kinds}, None, None]"


def of_kind(command: Command, choice: str) -> str | None:
    """Return the name of the reply of this kind, if it is one."""
    request: Any = command.request
    return next((reply.__name__ for reply in request.replies if reply.__struct_config__.tag == choice), None)


def signature(command: Command, parameters: dict[str, str], returned: str) -> str:
    """Return the name of a method, its parameters, and what it returns."""
    given = [field for field in command.fields if field.name in parameters]
    positional = [parameters[field.name] for field in given if field.positional]
    named = [parameters[field.name] for field in given if not field.positional]
    return f"{command.name}({', '.join(['self', *positional, *(['*', *named] if named else [])])}) -> {returned}"


def parameter(request: Any, field: Field) -> str:
    """Return a field as a parameter."""
    of = f"Literal{list(field.choices)!r}" if field.choices else TYPES[field.type]
    if field.required:
        return f"{field.name}: {of}"
    if field.clearable:
        return f"{field.name}: {of} | UnsetType | None = UNSET"
    default = default_of(request, field)
    return f"{field.name}: {of} | None = None" if default is UNSET else f"{field.name}: {of} = {default!r}"


def value(request: Any, field: Field) -> str:
    """Return what a parameter hands to the Struct."""
    if field.required or field.clearable or default_of(request, field) is not UNSET:
        return field.name
    if field.type is list:
        return f'given_list("{field.name}", {field.name})'
    return f"given({field.name})"


def default_of(request: Any, field: Field) -> Any:
    """Return what a field is if it is left out."""
    return next(each.default for each in structs.fields(request) if each.name == field.name)


def formatted(text: str) -> str:
    """Return a program as ruff writes it."""
    for arguments in (["check", "--fix", "--exit-zero", "--quiet"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(FOLDER / BLOCKING), "-"]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    for file in (BLOCKING, ASYNC):
        (FOLDER / file).write_text(module(file))
