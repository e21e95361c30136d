"""Writes the manual pages, from what the programs say of themselves: ``python -m tests.man``.

``tests/test_man.py`` compares them with those in man/, which the wheel installs.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from unittest import mock

from ticketctl.commands import known
from ticketctl.options import EXAMPLES, STATUSES, options_parser
from ticketd import __version__
from ticketd.cli import main
from ticketd.tools import COMMANDS

FOLDER = Path(__file__).parent.parent / "man"
# Nothing that somebody types is broken by a hyphen, or stretched.
_PLAIN = (".nh", ".ad l")


def pages() -> dict[str, str]:
    """Return the manual pages by the names of their files."""
    return {"ticketctl.1": _page(_ticketctl()), "ticketd.8": _page(_ticketd())}


def _ticketctl() -> Iterator[str]:
    parser = options_parser()
    yield f'.TH TICKETCTL 1 "" "ticketd {__version__}" "User Commands"'
    yield from _PLAIN
    yield from _section("NAME", ["ticketctl - sell tickets with ticketd, from a terminal or a script"])
    yield from _section("SYNOPSIS", [str(parser.usage)])
    yield from _section("DESCRIPTION", [_joined(str(parser.description))])
    yield from _section("OPTIONS", _arguments(parser, parser._actions))
    yield ".SH COMMANDS"
    for command in known().values():
        yield from _entry(command.usage, command.summary)
        yield ".RS"
        for field in command.fields:
            yield from _entry(field.name, f"{field.description}; {field.must_be}")
        yield ".RE"
    helps = {action: re.search(r"TICKETD_\w+", action.help or "") for action in parser._actions}
    variables = {match[0]: action for action, match in helps.items() if match}
    yield from _section("ENVIRONMENT", _environment(variables))
    yield from _section("EXIT STATUS", [_joined(STATUSES.removeprefix("exit status: "))])
    yield ".SH EXAMPLES"
    for line in EXAMPLES.splitlines()[1:]:
        typed, _, meaning = line.strip().partition("  ")
        yield from _entry(typed, meaning.strip())
    yield from _section("SEE ALSO", [".BR ticketd (8)"])


def _ticketd() -> Iterator[str]:
    parser = _helped()
    yield f'.TH TICKETD 8 "" "ticketd {__version__}" "System Administration"'
    yield from _PLAIN
    yield from _section("NAME", ["ticketd - sell a finite number of tickets to a crowd"])
    yield from _section("SYNOPSIS", "\n.br\n".join(map(str.strip, str(parser.usage).splitlines())).split("\n"))
    yield from _section("DESCRIPTION", [str(parser.description).replace("`", "")])
    for group in parser._action_groups:
        if group._group_actions:
            yield from _section(str(group.title).upper(), _arguments(parser, group._group_actions))
    for name in COMMANDS:
        command = _helped(name)
        yield from _section(str(command.prog).upper(), [str(command.description)])
        yield from _arguments(command, command._actions)
        epilog = _joined(str(command.epilog))
        yield from [".PP", f"{epilog[0].upper()}{epilog[1:]}."]
    # Each flag with a value.
    variables = {f"TICKETD_{action.dest.upper()}": action for action in parser._actions if action.nargs != 0}
    yield from _section("ENVIRONMENT", _environment(variables))
    yield from _section("EXIT STATUS", [str(parser.epilog).removeprefix("exit status: ")])
    yield from _section("SEE ALSO", [".BR ticketctl (1)"])


def _helped(*words: str) -> argparse.ArgumentParser:
    """Return the parser whose help ``ticketd ... --help`` shows."""
    shown: list[argparse.ArgumentParser] = []
    with (
        mock.patch.object(argparse.ArgumentParser, "print_help", lambda parser, _file=None: shown.append(parser)),
        mock.patch.object(sys, "argv", ["ticketd", *words, "--help"]),
        suppress(SystemExit),
    ):
        main()
    return shown[0]


def _arguments(parser: argparse.ArgumentParser, actions: Iterable[argparse.Action]) -> Iterator[str]:
    for action in actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
        if action.choices and not action.metavar:
            value = "|".join(action.choices)
        typed = " ".join(filter(None, [", ".join(action.option_strings), value]))
        yield from _entry(typed, parser._get_formatter()._expand_help(action))


def _environment(variables: Mapping[str, argparse.Action]) -> Iterator[str]:
    for name, action in variables.items():
        yield from _entry(name, f"the value of {action.option_strings[-1]}, if that is not given")


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f".SH {title}"
    yield from lines


def _entry(term: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield rf"\fB{term}\fR"
    yield text


def _joined(text: str) -> str:
    return " ".join(text.split())


def _page(lines: Iterable[str]) -> str:
    """Return lines as the source of a page. Those that begin with a point are requests."""
    return "".join(f"{line if line.startswith('.') else _escaped(line)}\n" for line in lines)


def _escaped(text: str) -> str:
    # A dash that somebody types must not become a hyphen. Nothing here has a backslash but the fonts of terms.
    return text.replace("-", r"\-")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, page in pages().items():
        (FOLDER / name).write_text(page)
