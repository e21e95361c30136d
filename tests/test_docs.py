"""The documentation is true: its tables come from the code, its transcripts are replayed, its links lead somewhere.

Each ``console`` block of README.md and docs/ is replayed, those of docs/postgresql.md by ``test_docs_postgresql``. What
cannot be replayed, such as an installation, stands in an ``sh`` or ``text`` block.
"""

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from tests.daemon import running, write_shipped_events
from tests.faults.__main__ import ATTACKS
from ticketd.config import Limits, Settings
from ticketd.errors import Code
from ticketd.wire.commands import commands, help_reply
from ticketd.wire.requests import Help
from ticketd.wire.roles import INCLUDED, Role, may

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]

README_WORDS_MAX = 1_800
# What commands for events also take, if the role allows it.
NO_EVENTS = {"show": "bookings and tickets", "watch": "bookings"}

# What differs from run to run: ids that were minted, in whole or at their ends, and times, but not those of events:
# their dates and the times of their sale are as they were typed.
_UUID = r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b"
_TICKET = r"(?<=\.)[0-9a-f]{12}\b"
_MINTED = f"{_UUID}|{_TICKET}"
_TIME = r'(?<!"date":")(?<!"opens":")(?<!"closes":")(?<!\t)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z'


def read(page: str) -> str:
    return (ROOT / page).read_text()


PROTOCOL = read("protocol.md")
README = read("README.md")
CONTRIBUTING = read("CONTRIBUTING.md")


def command_table(name: str) -> str:
    """Return the table of a command as it must stand in protocol.md."""
    command = help_reply(Help(name)).commands[0]
    lines = [f"`{command.usage}` — {command.summary} {needed(commands()[name].request)}"]
    if command.fields:
        lines += ["", "| field | | must be | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{field.name}` | {'required' if field.required else 'optional'} | {field.must_be}"
            f" | {field.description} |"
            for field in command.fields
        ]
    return "\n".join(lines)


def needed(request: Any) -> str:
    """Return which role a command needs, as it must stand in protocol.md."""

    def any_of(roles: frozenset[Role]) -> str:
        return " or ".join(f"`{role}`" for role in get_args(Role) if role in roles)

    if not request.roles:
        return "For anybody."
    role = f"Role: {any_of(request.roles)}"
    if request.ledger_roles:
        role += f"; for {NO_EVENTS[request.__struct_config__.tag]}, {any_of(request.ledger_roles)}"
    return f"{role}."


def roles_table() -> str:
    """Return the table of roles as it must stand in protocol.md: what each may do, and which others it includes."""
    parts: list[tuple[str, frozenset[Role]]] = []
    for name, command in commands().items():
        request: Any = command.request
        parts.append((f"`{name}` of events" if request.ledger_roles else f"`{name}`", request.roles))
        if request.ledger_roles:
            parts.append((f"`{name}` of {NO_EVENTS[name]}", request.ledger_roles))
    lines = ["| role | may do | and what these may |", "|---|---|---|"]
    anybody: list[Role | None] = [None]
    for role in [None, *get_args(Role)]:
        included = [other for other in get_args(Role) if role and other != role and other in INCLUDED[role]]
        below = [*anybody, *included] if role else []
        own = [part for part, roles in parts if may(role, roles) and not any(may(each, roles) for each in below)]
        others = ", ".join(f"`{other}`" for other in included)
        lines.append(f"| {f'`{role}`' if role else 'none'} | {', '.join(own)} | {others} |")
    return "\n".join(lines)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", commands())
def test_protocol_md_has_the_table_of_every_command(name: str) -> None:
    assert command_table(name) in PROTOCOL


def test_protocol_md_has_the_table_of_roles() -> None:
    assert roles_table() in PROTOCOL


def test_protocol_md_has_every_error_code_once() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", PROTOCOL.split("## Errors")[1].split("\n## ")[0], re.MULTILINE)
    assert sorted(listed) == sorted(get_args(Code))


def test_protocol_md_has_every_limit_with_its_default() -> None:
    for name in Limits.__struct_fields__:
        flag = "--" + name.replace("_", "-")
        assert f"| `{flag}` | {getattr(Limits(), name):g} |" in PROTOCOL


def test_operating_md_has_every_setting_with_its_default() -> None:
    page = read("docs/operating.md")
    for name in Settings.__struct_fields__:
        row = re.search(rf"^\| `--{name.replace('_', '-')}`.*", page, re.MULTILINE)
        assert row, name
        default = getattr(Settings(), name)
        # None, or off, is said in other words.
        assert not default or f"`{default}`" in row[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The catalogue of the repository, in a folder that may change."""
    write_shipped_events(tmp_path)
    return tmp_path


def same(written: Any, real: Any) -> bool:
    """Whether a reply is the one in the transcript, but for minted ids and times."""
    hide = re.compile(f"{_MINTED}|{_TIME}")
    return hide.sub("*", msgspec.json.encode(written).decode()) == hide.sub("*", msgspec.json.encode(real).decode())


def test_a_comparison_of_transcripts_hides_only_what_is_minted() -> None:
    reply = {"id": "b", "tickets": ["b.9f86d081884c"], "redeemed_at": "2027-01-01T00:00:00.1Z"}
    assert same(reply, {**reply, "tickets": ["b.000000000000"], "redeemed_at": "2028-01-01T00:00:00Z"})
    for other in ("c.9f86d081884c", "b.9f86d081884", "b.9f86d081884c0", "b-9f86d081884c", "9f86d081884c"):
        assert not same(reply, {**reply, "tickets": [other]})
    for name in ("date", "opens", "closes"):
        assert not same({name: "2027-01-01T00:00:00Z"}, {name: "2027-01-01T01:00:00Z"})


def test_a_daemon_answers_as_the_transcripts_of_protocol_md(checkout: Path) -> None:
    transcripts = blocks(PROTOCOL, "transcript")
    assert len(transcripts) > 5
    minted: dict[str, str] = {}
    with running(checkout) as daemon:
        for transcript in transcripts:
            with daemon.connect() as connection:
                for line in transcript.splitlines():
                    way, text = line[:2], line[2:]
                    if way == "> ":
                        # With an id that no reply had, all that it shows is that nothing has this id.
                        assert set(re.findall(_MINTED, text)) <= minted.keys(), text
                        # An id that was minted in the transcript is another one here.
                        for id, real in minted.items():
                            text = text.replace(id, real)
                        connection.send(text.encode() + b"\n")
                    else:
                        assert way == "< "
                        reply = connection.read()
                        assert same(msgspec.json.decode(text), reply), f"{text}\n{reply}"
                        ids = re.findall(_MINTED, msgspec.json.encode(reply).decode())
                        minted.update(zip(re.findall(_MINTED, text), ids, strict=True))


def console(page: str) -> Iterator[tuple[str, str]]:
    """Yield each command in the console blocks of a page, and its output."""
    for block in blocks(read(page), "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


def normal(output: str) -> str:
    """Return output without what differs from run to run."""
    output = re.sub(_UUID, "UUID", output)
    output = re.sub(_TICKET, "TICKET", output)
    output = re.sub(_TIME, "NOW", output)
    output = re.sub(r"\bUSED \d\d:\d\d\b", "USED NOW", output)
    output = re.sub(r"(jazz-night)-\w{6}\b", r"\1-XXXXXX", output)
    # Ids in a table shape its columns.
    return re.sub(r"[ ─]+", " ", output).strip()


def programs(folder: Path) -> dict[str, str]:
    """Make the programs that the pages use, and return the environment in which a shell finds them."""
    tools = folder / "bin"
    tools.mkdir()
    # The netcat of the machine may be missing, or another one: tests.nc speaks as `nc -N` does.
    # And tests.curl as `curl -s` does.
    own = {"ticketctl": "ticketctl", "ticketd": "ticketd", "nc": "tests.nc", "curl": "tests.curl"}
    for name, module in own.items():
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (tools / name).chmod(0o755)
    return {"PATH": f"{tools}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("page", PAGES)
def test_console_blocks_are_real_runs(page: str, checkout: Path) -> None:
    commands = list(console(page))
    if page == "README.md":
        assert len(commands) >= 5
    if not commands:
        return
    with running(checkout, "--metrics", "0") as daemon:
        environment = {**programs(checkout), "TICKETD_PORT": str(daemon.port)}
        for command, written in commands:
            command = command.replace("nc -N 127.0.0.1 8080", f"nc -N 127.0.0.1 {daemon.port}")
            ran = subprocess.run(
                ["/bin/sh", "-c", command.replace("127.0.0.1:9464", f"127.0.0.1:{daemon.metrics_port}")],
                cwd=checkout,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=30,
                check=False,
            )
            assert normal(ran.stdout) == normal(written), command


@pytest.mark.parametrize("page", PAGES)
def test_a_block_with_a_prompt_is_a_console_block(page: str) -> None:
    text = read(page)
    languages = re.findall(r"^ *```(\w*)\n *\$ ", text, re.MULTILINE)
    assert set(languages) <= {"console"}


def test_readme_has_at_most_1800_words() -> None:
    assert len(README.split()) <= README_WORDS_MAX


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_tests_that_a_page_names_exist(page: str) -> None:
    defined = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    # `tests/test_docs.py` is a file, and the skeleton of a new test is in a block of Python.
    text = re.sub(r"```python\n.*?```", "", read(page), flags=re.DOTALL)
    names = re.findall(r"`(test_\w+)`", text)
    assert [name for name in names if f"def {name}(" not in defined] == []


def test_each_promise_of_the_readme_names_a_test() -> None:
    promises = README.split("## What is promised")[1].split("\n## ")[0]
    rows = re.findall(r"^\| \*\*.*\|$", promises, re.MULTILINE)
    assert len(rows) >= 8
    assert [row for row in rows if not re.search(r"\| `test_\w+` \|", row)] == []


def anchors(text: str) -> set[str]:
    """Return what a link may have after its #: the headings, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


OTHER_PAGES = ["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "protocol.md", "examples/README.md"]


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES])
def test_relative_links_lead_to_a_file_and_a_heading(page: str) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", read(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    assert broken == []


def test_contributing_lists_the_attacks_that_exist() -> None:
    table = CONTRIBUTING.split("### The attacks")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == list(ATTACKS)


def test_attacks_that_a_page_names_exist() -> None:
    named = re.findall(r"python -m tests\.faults((?: [a-z]+(?:-[a-z]+)*)+)", "".join(map(read, PAGES)))
    assert named
    assert [name for names in named for name in names.split() if name not in ATTACKS] == []


def test_contributing_names_only_modules_that_exist() -> None:
    named = re.findall(r"\b(?:ticketd|ticketctl|tests)/[\w/]*\w\.py\b", CONTRIBUTING)
    # The reader is to write this one.
    assert {name for name in named if not (ROOT / name).is_file()} == {"tests/serving/test_peek.py"}


def test_the_skeleton_of_a_command_is_the_one_that_is_tested() -> None:
    tested = read("tests/extra_command.py")
    skeleton = [
        textwrap.dedent(block) for block in re.findall(r"^   ```python\n(.*?)   ```$", CONTRIBUTING, re.M | re.S)
    ]
    reply, struct, function, row, _ = skeleton
    assert [part for part in (reply, struct, function) if part not in tested] == []
    # There it needs other names: here it uses those of the table.
    assert row.replace("reading.peek", "peek").rstrip(",\n") == "Peek: Row(answer=peek, shows_events=True)"
    assert "TABLE[Peek] = Row(answer=peek, shows_events=True)" in tested


def test_the_map_names_every_module_once() -> None:
    mapped = CONTRIBUTING.split("## The map")[1].split("\n## ")[0]
    named = re.findall(r"^\| `([\w/]+\.py)` \|", mapped, re.MULTILINE)
    modules = [
        str(path.relative_to(ROOT))
        for package in ("ticketd", "ticketctl")
        for path in (ROOT / package).rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    ]
    assert sorted(named) == sorted(modules)
