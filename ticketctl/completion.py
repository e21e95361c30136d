"""Makes the scripts with which bash, zsh and fish complete ticketctl.

They know the commands and options by themselves, and ask the daemon for its events by calling ticketctl.
"""

import argparse
from collections.abc import Mapping
from typing import Any

import shtab

from ticketctl.options import options_parser
from ticketctl.own import OwnCommand, OwnField
from ticketd.wire.schema import Command, Field

# So many events are offered, and so long the daemon is waited for.
EVENTS_MAX = 200
SECONDS_MAX = 1

# Each asks for the events with the options that stand before the command, such as --port.
_LIST = f"--timeout {SECONDS_MAX} list --limit {EVENTS_MAX} </dev/null 2>/dev/null"
_BASH = f"""
_ticketctl_events() {{
  local command=("${{COMP_WORDS[0]}}") word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case " $_ticketctl_commands " in *" $word "*) break ;; esac
    command+=("$word")
  done
  compgen -W "$("${{command[@]}}" {_LIST} | cut -f 1)" -- "$1"
}}
"""
# When this is called, $words begins with the command.
_ZSH = f"""
_ticketctl_events() {{
  local -a command events
  local word before=
  for word in ${{(Q)${{(z)LBUFFER}}}}; do
    if [[ ${{word:t}} == ticketctl ]]; then
      command=($word) before=1
    elif [[ " $_ticketctl_commands " == *" $word "* ]]; then
      before=
    elif [[ -n $before ]]; then
      command+=($word)
    fi
  done
  events=(${{(f)"$($command {_LIST} | cut -f 1)"}})
  compadd -a events
}}
"""
_FISH = f"""
function _ticketctl_events
  set -l words (commandline -opc)
  set -l command $words[1]
  for word in $words[2..]
    contains -- $word (string split ' ' $_ticketctl_commands); and break
    set -a command $word
  end
  $command {_LIST} | cut -f 1,2
end
"""


def script(shell: str, commands: Mapping[str, Command | OwnCommand]) -> str:
    """Return the script for ``bash``, ``zsh`` or ``fish``, which completes these commands."""
    names = " ".join(commands)
    set_names = f"set -g _ticketctl_commands '{names}'" if shell == "fish" else f"_ticketctl_commands='{names}'"
    preamble = set_names + {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}[shell]
    return shtab.complete(_parser(commands), shell, preamble=preamble)


def _parser(commands: Mapping[str, Command | OwnCommand]) -> argparse.ArgumentParser:
    """Return a parser with all options and commands. It parses nothing: commands have a grammar of their own."""
    parser = options_parser()
    for action in parser._actions:
        if action.metavar == "FILE":
            _complete(action, "files")
    subparsers = parser.add_subparsers(metavar="command")
    for name, command in commands.items():
        summary = _literal(command.summary)
        subparser = subparsers.add_parser(name, help=summary, description=summary, add_help=False)
        for field in command.fields:
            _add(subparser, field, commands)
    return parser


def _add(parser: argparse.ArgumentParser, field: Field, commands: Mapping[str, Command | OwnCommand]) -> None:
    described: dict[str, Any] = {"help": _literal(field.description)}
    if field.completes == "commands":
        described["choices"] = list(commands)
    elif field.completes == "repeatable commands":
        described["choices"] = [name for name, command in commands.items() if isinstance(command, Command)]
    elif field.choices:
        described["choices"] = field.choices
    if field.positional:
        _complete(parser.add_argument(field.name, **described), field.completes)
    elif isinstance(field, OwnField) and field.flag:
        parser.add_argument(f"--{field.option}", action="store_true", **described)
    elif field.type is bool:
        parser.add_argument(f"--{field.option}", f"--no-{field.option}", action="store_true", **described)
    else:
        action = parser.add_argument(f"--{field.option}", metavar=field.metavar, **described)
        _complete(action, field.completes)


def _complete(action: argparse.Action, what: str | None) -> None:
    """Say what shtab lets a shell offer: files, or the ids of events. A shell knows no bookings."""
    if what == "files":
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif what in ("events", "ids"):
        action.complete = {  # type: ignore[attr-defined]
            "bash": "_ticketctl_events",
            "zsh": "_ticketctl_events",
            "fish": "(_ticketctl_events)",
        }


def _literal(text: str) -> str:
    """Return a text for argparse, which puts values where it finds a %."""
    return text.replace("%", "%%")
