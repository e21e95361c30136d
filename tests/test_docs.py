"""protocol.md and README.md tell the truth: their tables are what is declared, their transcripts are replayed."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from tests.daemon import running, write_shipped_events
from tests.faults.__main__ import ATTACKS
from ticketd.config import Limits
from ticketd.errors import Code
from ticketd.protocol import COMMANDS, help_reply
from ticketd.protocol import Help as HelpRequest

ROOT = Path(__file__).parent.parent
PROTOCOL = (ROOT / "protocol.md").read_text()
README = (ROOT / "README.md").read_text()

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"


def command_table(name: str) -> str:
    """Return the table of a command as it must stand in protocol.md."""
    command = help_reply(HelpRequest(name)).commands[0]
    lines = [f"`{command.usage}` — {command.summary}"]
    if command.fields:
        lines += ["", "| field | | must be | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{field.name}` | {'required' if field.required else 'optional'} | {field.must_be}"
            f" | {field.description} |"
            for field in command.fields
        ]
    return "\n".join(lines)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", COMMANDS)
def test_protocol_md_has_the_table_of_every_command(name: str) -> None:
    assert command_table(name) in PROTOCOL


def test_protocol_md_tells_every_error_code_once() -> None:
    told = re.findall(r"^\| `(\w+)` \|", PROTOCOL.split("## Errors")[1].split("\n## ")[0], re.MULTILINE)
    assert sorted(told) == sorted(get_args(Code))


def test_protocol_md_tells_every_limit_with_its_default() -> None:
    for name in Limits.__struct_fields__:
        flag = "--" + name.replace("_", "-")
        assert f"| `{flag}` | {getattr(Limits(), name):g} |" in PROTOCOL


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The catalogue of the repository, in a folder that may change."""
    write_shipped_events(tmp_path)
    return tmp_path


def same(told: Any, real: Any) -> bool:
    """Whether a reply is the one that is told, but for ids that are minted and times."""
    hide = re.compile(_UUID + r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.?\d*Z")
    return hide.sub("*", msgspec.json.encode(told).decode()) == hide.sub("*", msgspec.json.encode(real).decode())


def test_the_transcripts_of_protocol_md_are_what_a_daemon_answers(checkout: Path) -> None:
    transcripts = blocks(PROTOCOL, "transcript")
    assert len(transcripts) > 5
    with running(checkout) as daemon:
        for transcript in transcripts:
            with daemon.connect() as connection:
                minted: dict[str, str] = {}
                for line in transcript.splitlines():
                    way, text = line[:2], line[2:]
                    if way == "> ":
                        # An id that was minted in the transcript is another one here.
                        for uuid, real in minted.items():
                            text = text.replace(uuid, real)
                        connection.send(text.encode() + b"\n")
                    else:
                        assert way == "< "
                        reply = connection.read()
                        assert same(msgspec.json.decode(text), reply), f"{text}\n{reply}"
                        uuids = re.findall(_UUID, msgspec.json.encode(reply).decode())
                        minted.update(zip(re.findall(_UUID, text), uuids, strict=True))


def sessions() -> Iterator[tuple[str, str]]:
    """Yield each command of README's first minute, and its output."""
    for block in blocks(README, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def normal(output: str) -> str:
    """Return output without what differs from run to run."""
    output = re.sub(_UUID, "UUID", output)
    output = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "NOW", output)
    output = re.sub(r"(jazz-night)-\w{6}\b", r"\1-XXXXXX", output)
    # Ids that the shell prints shape the columns of a table.
    return re.sub(r"[ ─]+", " ", output).strip()


def test_the_first_minute_of_the_readme_is_a_real_run(checkout: Path) -> None:
    commands = list(sessions())
    assert len(commands) >= 5
    with running(checkout) as daemon:
        tools = checkout / "bin"
        tools.mkdir()
        (tools / "ticketctl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ticketctl "$@"\n')
        # The netcat of the machine may be missing, or another one: this speaks as `nc -N` does.
        (tools / "nc").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.nc "$@"\n')
        for tool in tools.iterdir():
            tool.chmod(0o755)
        environment = {
            "PATH": f"{tools}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "TICKETD_PORT": str(daemon.port),
        }
        for command, told in commands:
            command = command.replace("nc -N 127.0.0.1 8080", f"nc -N 127.0.0.1 {daemon.port}")
            ran = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=checkout,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=30,
                check=False,
            )
            assert normal(ran.stdout) == normal(told), command


def test_the_readme_names_tests_and_attacks_that_there_are() -> None:
    there = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = re.findall(r"`(test_\w+)`", README)
    assert len(names) > 10
    assert [name for name in names if f"def {name}(" not in there] == []
    assert [link for link in re.findall(r"\]\(([^)]+)\)", README) if not (ROOT / link).exists()] == []
    assert re.findall(r"^\| `([a-z-]+)` \|", README, re.MULTILINE) == list(ATTACKS)
