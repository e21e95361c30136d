"""The access file and ``ticketd access``: who may write it, what is wrong with it in words, and what it never holds."""

import fcntl
import hashlib
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tests.conftest import SECONDS_MAX, environment
from tests.secured import ROLES, access, secret, write_access
from ticketd import access_file
from ticketd.access_file import TOKENS_MAX, AccessFileError, AccessList, Token


def ticketd_access(*words: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``ticketd access`` to its end, in a folder."""
    python_path = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "ticketd", "access", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(PYTHONPATH=python_path, **env),
        timeout=SECONDS_MAX,
    )


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# The command


def test_tokens_are_added_listed_and_removed(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    secrets = []
    for role in ROLES:
        done = ticketd_access("add", f"my-{role}", "--role", role, folder=tmp_path)
        assert done.returncode == 0
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", done.stdout)
        assert f"my-{role}" in done.stderr
        secrets.append(done.stdout.strip())
        assert mode_of(file) == 0o600
    assert len(set(secrets)) == len(ROLES)
    # The file has hashes, and no secrets.
    assert not any(secret in file.read_text() for secret in secrets)
    tokens = access_file.read(file).tokens
    assert [token.sha256 for token in tokens] == [hashlib.sha256(secret.encode()).hexdigest() for secret in secrets]
    listed = ticketd_access("list", folder=tmp_path)
    assert listed.stdout.splitlines() == [f"my-{role}\t{role}" for role in ROLES]
    assert ticketd_access("remove", "my-door", folder=tmp_path).returncode == 0
    assert [token.name for token in access_file.read(file).tokens] == [f"my-{role}" for role in ROLES if role != "door"]
    assert [path.name for path in tmp_path.iterdir()] == ["access.json"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["add", "x"], "--role"),
        (["add", "--role", "seller"], "NAME"),
        (["add", "x", "--role", "king"], "--role"),
        (["add", "a b", "--role", "seller"], "NAME must be"),
        (["add", "user:x", "--role", "seller"], "NAME must be"),
        (["add", "x" * 65, "--role", "seller"], "NAME must be"),
        (["list", "x"], "list takes no NAME"),
        (["remove"], "NAME"),
        (["remove", "x", "--role", "seller"], "--role"),
        (["rename", "x"], 'say add, list or remove, not "rename"'),
        ([], "say add, list or remove"),
        (["add", "anonymous", "--role", "seller"], "and not ., .., anonymous, anybody"),
        (["add", ".", "--role", "seller"], "NAME must be"),
        (["list", "--access", ""], "TICKETD_ACCESS or --access is empty"),
        (["remove", "nobody"], "there is no token nobody"),
        (["add", "seller", "--role", "door"], "there is a token seller already"),
        (["list", "--access", "nope.json"], "cannot read the access file nope.json (No such file or directory)"),
        (["add", "x", "--role", "door", "--access", "no/such/file"], "cannot write the access file no/such/file"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(tmp_path: Path, words: list[str], named: str) -> None:
    file = tmp_path / "access.json"
    write_access(file)
    before = file.read_bytes()
    done = ticketd_access(*words, folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["access.json"]


def test_the_variable_of_the_daemon_names_the_file_too(tmp_path: Path) -> None:
    there = {"TICKETD_ACCESS": "there.json"}
    done = ticketd_access("add", "shop", "--role", "seller", folder=tmp_path, **there)
    assert done.stderr.splitlines()[0] == "ticketd: created there.json; start ticketd with --access there.json"
    done = ticketd_access("add", "door", "--role", "door", folder=tmp_path, **there)
    assert done.stderr.startswith("ticketd: added door to there.json; ")
    done = ticketd_access("remove", "shop", folder=tmp_path, **there)
    assert done.stderr.startswith("ticketd: removed shop from there.json; ")
    assert ticketd_access("list", folder=tmp_path, **there).stdout == "door\tdoor\n"
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]
    assert ticketd_access("list", folder=tmp_path, TICKETD_ACCESS="").returncode == 2


def test_all_who_have_a_role_are_listed(tmp_path: Path) -> None:
    write_access(
        tmp_path / "access.json", ["door"], anonymous="reader", users={"root": "admin", "nobody-at-all": "door"}
    )
    listed = ticketd_access("list", folder=tmp_path)
    assert listed.stdout == "door\tdoor\nuser:root\tadmin\nuser:nobody-at-all\tdoor\nanonymous\treader\n"
    assert listed.stderr == "ticketd: this machine does not know the user nobody-at-all\n"


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (folder := tmp_path / "elsewhere").mkdir()
    file, link = folder / "real.json", tmp_path / "access.json"
    write_access(file, ["seller"])
    link.symlink_to(file)
    access_file.add(link, "new", "door")
    access_file.remove(link, "seller")
    assert link.is_symlink()
    assert [token.name for token in access_file.read(file).tokens] == ["new"]


@pytest.mark.parametrize(("before", "after"), [(0o600, 0o600), (0o640, 0o640), (0o644, 0o640), (0o400, 0o400)])
def test_who_may_read_the_file_may_still_read_it(tmp_path: Path, before: int, after: int) -> None:
    file = tmp_path / "access.json"
    write_access(file)
    file.chmod(before)
    access_file.remove(file, "door")
    assert mode_of(file) == after


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_only_the_tool_takes_the_file_of_another_user(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    write_access(file)
    file.chmod(0o640)
    os.chown(file, 65534, 65534)
    access_file.remove(file, "door")
    status = file.stat()
    assert (status.st_uid, status.st_gid, mode_of(file)) == (65534, 65534, 0o640)
    with pytest.raises(AccessFileError, match="belongs to another user"):
        access_file.read(file)


def test_whoever_locks_the_folder_makes_nobody_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_file, "LOCK_SECONDS_MAX", 0.1)
    file = tmp_path / "access.json"
    write_access(file)
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(AccessFileError, match="another program has locked"):
        access_file.remove(file, "door")
    os.close(folder)
    access_file.remove(file, "door")


def test_what_else_the_file_says_stays_when_it_is_changed(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    write_access(file, anonymous="reader", users={"ann": "manager"})
    access_file.add(file, "new", "seller")
    access_file.remove(file, "door")
    content = access_file.read(file)
    assert (content.anonymous, content.users) == ("reader", {"ann": "manager"})
    assert [token.name for token in content.tokens] == ["reader", "seller", "manager", "admin", "new"]


def test_changes_at_the_same_time_are_all_made(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    write_access(file, [f"old-{number}" for number in range(0)])
    for number in range(20):
        access_file.add(file, f"old-{number}", "seller")

    def change(number: int) -> None:
        access_file.add(file, f"new-{number}", "seller")
        access_file.remove(file, f"old-{number}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(change, range(20)))
    # No token that was removed has come back.
    assert {token.name for token in access_file.read(file).tokens} == {f"new-{number}" for number in range(20)}


def test_the_file_is_never_seen_half_written(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    access_file.add(file, "first", "seller")
    old = file.open("rb")
    inode = file.stat().st_ino
    access_file.add(file, "second", "seller")
    # Whoever had opened it reads all of the old one; the new one has the name.
    with old:
        assert b"second" not in old.read()
    assert file.stat().st_ino != inode


def test_what_a_broken_change_left_is_in_nobodys_way(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    write_access(file, ["seller"])
    victim = tmp_path / "victim"
    victim.write_text("mine")
    # A link there is not followed.
    (tmp_path / ".access.json.new").symlink_to(victim)
    access_file.add(file, "two", "seller")
    assert victim.read_text() == "mine"
    assert not file.is_symlink()
    assert mode_of(file) == 0o600


def test_no_more_tokens_are_added_than_are_read(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    access_file.write(
        file, AccessList([Token(f"t{number}", "seller", f"{number:064}") for number in range(TOKENS_MAX)])
    )
    with pytest.raises(AccessFileError, match="1,000 tokens"):
        access_file.add(file, "one-more", "seller")
    assert len(access_file.read(file).tokens) == TOKENS_MAX


# Reading


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o777, 0o660])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "access.json"
    write_access(file)
    file.chmod(mode)
    with pytest.raises(AccessFileError, match=r"others can write the access file .*: chmod 600 "):
        access_file.read(file)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o644])
def test_a_file_that_others_can_only_read_is_taken(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "access.json"
    write_access(file)
    file.chmod(mode)
    assert len(access_file.read(file).tokens) == len(ROLES)


HASH = "0" * 64
SAME_HASH = tuple(hashlib.sha256(secret(name).encode()).hexdigest().encode() for name in "ab")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "is empty; remove it, and ticketd access add makes a new one"),
        (b" \n", "is empty"),
        (b"{", "is not valid: "),
        (b"\xff", "is not valid: "),
        (b"[]", "is not valid: "),
        (b'{"tokens":{}}', "`$.tokens`"),
        (b'{"colour":"red"}', "`colour`"),
        (b'{"anonymous":"king"}', "'king'"),
        (b'{"users":{"ann":"king"}}', "'king'"),
        (b'{"tokens":[{"name":"a","role":"door"}]}', "`sha256`"),
        (
            b'{"tokens":[{"name":"a b","role":"door","sha256":"%s"}]}' % HASH.encode(),
            "tokens[0].name must be 1 to 32 of A-Z",
        ),
        (
            b'{"tokens":[{"name":"a","role":"door","sha256":"secret"}]}',
            "tokens[0].sha256 must be 64 hexadecimal digits",
        ),
        (b'{"tokens":[{"name":"a","role":"door","sha256":"%s"}]}' % (b"F" * 64), "tokens[0].sha256 must be 64"),
        (b'{"users":{"a b":"door"}}', "key in users must be 1 to 32 of A-Z"),
        (access({"anonymous": "door"}), "no token may be called anonymous"),
        (access({"a": "door", "b": "seller"}).replace(SAME_HASH[0], SAME_HASH[1]), "two tokens have the same sha256"),
        (access({"a": "door", "b": "seller"}).replace(b'"b"', b'"a"'), "two tokens have the same name"),
        (b"[" * 100_000, "is not valid: "),
        (b" " * (1024 * 1024 + 1), "more than 1048576 bytes"),
        (
            msgspec.json.encode(AccessList([Token(f"t{n}", "door", f"{n:064}") for n in range(TOKENS_MAX + 1)])),
            "more than 1,000 tokens",
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: bytes, named: str) -> None:
    file = tmp_path / "access.json"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(AccessFileError) as raised:
        access_file.read(file)
    assert str(raised.value).startswith(f"the access file {file} ")
    assert named in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "named"),
    [(Path.mkdir, "no regular file"), (os.mkfifo, "no regular file"), (lambda file: None, "No such file")],
    ids=["folder", "pipe", "nothing"],
)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None], named: str) -> None:
    file = tmp_path / "access.json"
    make(file)
    with pytest.raises(AccessFileError, match=named):
        access_file.read(file)
