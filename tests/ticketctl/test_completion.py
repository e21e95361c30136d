"""Completions for shells: what Tab offers in bash and fish, where they are installed, and what is in the scripts."""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import SECONDS_MAX, ctl, environment, nobody
from tests.daemon import Daemon
from ticketctl.commands import known
from ticketctl.options import options_parser

SHELLS = ["bash", "zsh", "fish"]
# What each shell runs to print what it offers at the end of each line of $LINES_TYPED, and after it a line of dashes.
OFFERED = {
    "bash": """
source "$SCRIPT"
compopt() { :; }
while IFS= read -r COMP_LINE; do
    read -r -a COMP_WORDS <<<"$COMP_LINE"
    [[ $COMP_LINE == *' ' ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_POINT=${#COMP_LINE}
    _shtab_ticketctl ticketctl "${COMP_WORDS[COMP_CWORD]}"
    printf '%s\\n' "${COMPREPLY[@]}" ---
done <<<"$LINES_TYPED"
""",
    "fish": """
source $SCRIPT
for line in (string split \\n -- $LINES_TYPED)
    complete -C "$line" | cut -f 1
    echo ---
end
""",
}


@cache
def script(shell: str) -> str:
    with nobody() as port:
        done = ctl("completion", shell, port=port)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def offered(shell: str, lines: Iterable[str], folder: Path) -> list[list[str]]:
    """Return what a shell offers at the end of each line."""
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    file = folder / "_ticketctl"
    file.write_text(script(shell))
    program = folder / "ticketctl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ticketctl "$@"\n')
    program.chmod(0o755)
    typed = {"LINES_TYPED": "\n".join(lines), "SCRIPT": str(file), "HOME": str(folder)}
    done = subprocess.run(
        [shell, "-c", OFFERED[shell]],
        env=environment(**typed, PATH=f"{folder}:{environment()['PATH']}"),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    return [sorted(set(part.split())) for part in done.stdout.split("---\n")[:-1]]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_tab_offers_commands_options_and_the_events_of_the_daemon(shell: str, daemon: Daemon, tmp_path: Path) -> None:
    with daemon.connect() as connection:
        connection.ask("create Jazz 2037-03-11T20:00:00Z 7 --id jazz")
        connection.ask("create Jam 2037-03-11T20:00:00Z 7 --id jam")
    with nobody() as port:
        expected = {
            f"ticketctl --port {daemon.port} book ja": ["jam", "jazz"],
            f"ticketctl -p {daemon.port} bookings --event j": ["jam", "jazz"],
            f"ticketctl -p {port} book ja": [],
            "ticketctl --json bo": ["book", "bookings"],
            "ticketctl book jazz 2 --bu": ["--buyer"],
            "ticketctl amend jazz --no": ["--no-paused"],
            "ticketctl show --kind ": ["booking", "event", "ticket"],
            "ticketctl completion ": sorted(SHELLS),
            "ticketctl --tim": ["--timeout", "--timezone"],
            f"ticketctl import {tmp_path}/ticketc": [f"{tmp_path}/ticketctl"],
        }
        assert dict(zip(expected, offered(shell, expected, tmp_path), strict=True)) == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_knows_every_command_and_option(shell: str) -> None:
    text = script(shell)
    for command in known().values():
        assert command.name in text
        for field in command.fields:
            if not field.positional:
                assert f"--{field.option}" in text or f"-l {field.option}" in text
    for action in options_parser()._actions:
        option = action.option_strings[-1]
        assert option in text or f"-l {option.removeprefix('--')}" in text


def test_completion_takes_a_shell_that_it_knows() -> None:
    done = ctl("completion", "tcsh")
    assert (done.returncode, done.stdout) == (2, "")
    assert 'shell must be one of bash, zsh, fish, not "tcsh"' in done.stderr
