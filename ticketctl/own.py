"""What a command of the client itself is: its help, the words it takes, and the function that runs it.

Knows no such command: ``auto``, ``export``, ``importing`` and ``commands`` define them.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ticketctl.client import Client
from ticketctl.output import Output
from ticketd.errors import TicketError
from ticketd.wire.replies import CommandHelp, ErrorReply, FieldHelp
from ticketd.wire.roles import ANYBODY, SAY_WHO, Role, any_of
from ticketd.wire.schema import Field, shown

Run = Callable[[Sequence[str], Client, Output], int]


class OwnField(Field):
    """One field. The annotation is as in a request: its Meta has the bounds and the description.

    ``usage`` says how the field is typed. A field that is not required is an option, unless its Meta says
    ``positional``; a ``flag`` is an option without a value.
    """

    def __init__(
        self,
        name: str,
        annotation: Any,
        *,
        required: bool = True,
        usage: str | None = None,
        flag: bool = False,
    ) -> None:
        super().__init__(name, annotation, required)
        self.annotation = annotation
        self.flag = flag
        self._usage = usage

    @property
    def usage(self) -> str:
        """The field as it is typed: ``FILE`` or ``[--csv]``."""
        return self._usage or super().usage

    def accepts(self, word: str) -> bool:
        """Whether a word is a value of this field."""
        try:
            msgspec.convert(word, self.annotation, strict=False)
        except msgspec.ValidationError:
            return False
        return True


class OwnCommand:
    """One command. ``run`` gets the words after its name, and returns the exit status. It needs one of the roles."""

    def __init__(
        self, name: str, summary: str, fields: Sequence[OwnField], run: Run, roles: frozenset[Role] = ANYBODY
    ) -> None:
        self.name = name
        self.summary = summary
        self.fields = fields
        self.run = run
        self.roles = roles

    @property
    def usage(self) -> str:
        """The command as it is typed, such as ``import FILE``."""
        return " ".join([self.name, *(field.usage for field in self.fields)])

    @property
    def help(self) -> CommandHelp:
        """The command as ``help`` shows it."""
        fields = [FieldHelp(field.name, field.required, field.must_be, field.description) for field in self.fields]
        return CommandHelp(self.name, self.usage, self.summary, fields)

    def parse(self, words: Sequence[str]) -> dict[str, str]:
        """Return the value of each field that is given; that of a flag is empty. Raises TicketError (bad_request)."""
        options = {f"--{field.option}": field for field in self.fields if not field.positional}
        positional = [field for field in self.fields if field.positional]
        given: dict[str, str] = {}
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word.startswith("--"):
                option, equals, value = word.partition("=")
                field = options.get(option)
                if field is None:
                    raise self.wrong(f"{self.name} has no option {shown(option)}")
                if field.flag and equals:
                    raise self.wrong(f"{option} takes no value")
                if not field.flag and not equals:
                    if not rest:
                        raise self.wrong(f"{option} needs a value")
                    value = rest.pop(0)
            elif positional:
                field, value = positional.pop(0), word
            else:
                raise self.wrong(f"{shown(word)} is one word too many")
            if not field.flag and not field.accepts(value):
                raise self.wrong(f"{field.name} must be {field.must_be}, not {shown(value)}")
            given[field.name] = value
        for field in positional:
            if field.required:
                raise self.wrong(f"{self.name} needs {field.name}: {field.description}, {field.must_be}")
        return given

    def refusal(self, reply: ErrorReply) -> ErrorReply:
        """Return the refusal of a request that it sent. It names this command, which is what was typed."""
        if reply.code != "unauthorized":
            return reply
        if reply.message.endswith(SAY_WHO):
            # Its first request may need a lesser role than the others.
            message = f"{self.name} needs the role {any_of(self.roles)}; {SAY_WHO}"
        else:
            message = re.sub(r"^\w+(?= needs the role )", self.name, reply.message)
        return msgspec.structs.replace(reply, message=message)

    def wrong(self, what: str) -> TicketError:
        """Return the error for words that this command does not take."""
        return TicketError("bad_request", f"{what}; usage: {self.usage}")
