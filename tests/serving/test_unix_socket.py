"""The unix socket: who may connect, which file may be there already, and what a path may be. A real daemon."""

import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.daemon import Daemon, running, unasked, until, write_events
from tests.secured import ME, RSA, over_tls, over_unix, plain, write_access
from ticketd.config import STATUS_CANNOT_LISTEN


def refused(folder: Path, path: Path) -> str:
    """Return the last line of a daemon that cannot listen there."""
    daemon = Daemon("--port", "0", "--events", str(folder / "events.json"), "--unix", str(path))
    try:
        assert daemon.wait() == STATUS_CANNOT_LISTEN
    finally:
        daemon.kill()
    assert "Traceback" not in "\n".join(daemon.lines)
    return daemon.lines[-1]


def test_it_sells_and_its_clients_have_names(tmp_path: Path, short_path: Path) -> None:
    write_events(tmp_path, 10)
    with running(tmp_path, "--unix", str(short_path)) as daemon, over_unix(short_path) as connection:
        assert f",unix:{short_path} " in daemon.wait_line("^ready")
        assert connection.ask("book 1 1 --booking b")["state"] == "confirmed"
        assert f"peer=unix:{os.getuid()}" in daemon.wait_line("booking=b")
        connection.send(b"watch 1\n")
        assert connection.read()["available"] == 9
        with plain(daemon) as other:
            other.ask("book 1 1")
        assert connection.read()["available"] == 8


@pytest.mark.parametrize(
    ("flags", "mode"), [((), 0o600), (("--unix-mode", "0660"), 0o660), (("--unix-mode", "000"), 0)]
)
def test_its_mode_says_who_may_connect(tmp_path: Path, short_path: Path, flags: tuple[str, ...], mode: int) -> None:
    with running(tmp_path, "--unix", str(short_path), *flags) as daemon:
        assert stat.S_IMODE(short_path.stat().st_mode) == mode
        with plain(daemon) as connection:
            # What the daemon creates from then on is for its owner only.
            connection.ask("create Jazz 2027-03-11T20:00:00Z 5")
        assert daemon.end() == 0
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir() if file.is_file()} == {0o600}


def test_its_users_have_their_own_roles_and_names(tmp_path: Path, short_path: Path) -> None:
    write_events(tmp_path, 10)
    file = write_access(tmp_path / "access.json", users={ME: "manager"})
    with running(tmp_path, "--access", file, "--unix", str(short_path)) as daemon, over_unix(short_path) as connection:
        connection.ask("book 1 1 --booking b")
        assert connection.ask("show b")["by"] == f"user:{ME}"
        assert f"peer=unix:{os.getuid()} by=user:{ME}" in daemon.wait_line("booking=b")
        # A token says more than the user.
        assert connection.auth("admin")["name"] == "admin"
        assert connection.ask("stats")["reply"] == "stats"


def test_nobody_waits_until_this_machine_says_who_its_users_are(tmp_path: Path, short_path: Path) -> None:
    write_events(tmp_path, 10)
    hangs, asked = tmp_path / "hangs", tmp_path / "asked"
    file = tmp_path / "access.json"
    flags = ("--access", write_access(file, users={ME: "seller"}), "--unix", str(short_path))
    env = {"HANGS": str(hangs), "ASKED": str(asked)}
    with running(tmp_path, *flags, module="tests.slow_names", env=env) as daemon:
        hangs.touch()
        with over_unix(short_path) as user, plain(daemon) as seller:
            assert user.ask("book 1 1")["available"] == 9
            assert not asked.exists()
            seller.auth("seller")
            write_access(file, ["reader"], users={ME: "manager", "nobody": "seller"})
            daemon.process.send_signal(signal.SIGHUP)
            until(asked.exists)
            assert user.ask("book 1 1")["available"] == 8
            # A token is taken back all the same, and whose number is known already has another role.
            line = daemon.wait_line("has a user ")
            assert line.endswith(" nobody, and this machine does not say who that is; send SIGHUP when it does")
            assert unasked(seller.read()) == "unauthorized"
            assert user.ask("create Jazz 2027-03-11T20:00:00Z 5")["reply"] == "event"
        hangs.unlink()
        seen = len(daemon.lines)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_line_after(seen, "read the access file .* again")
        assert not [line for line in daemon.lines[seen:] if "has a user" in line]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_a_name_is_a_number(tmp_path: Path, short_path: Path) -> None:
    write_events(tmp_path, 10)
    # More than half of all numbers: to whom it is signed, they are negative.
    user = "4294967290"
    file = write_access(tmp_path / "access.json", users={user: "reader"})
    short_path.parent.chmod(0o755)
    with running(tmp_path, "--access", file, "--unix", str(short_path), "--unix-mode", "666"):
        ask = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.send(b'list\\n')"
            "; print(s.recv(1000).decode())"
        )
        answer = subprocess.run(
            ["/usr/bin/env", "python3", "-c", ask, str(short_path)],
            user=int(user),
            group=65534,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert '"reply":"events"' in answer.stdout, answer


def test_it_needs_no_tls_beside_a_port_that_does(tmp_path: Path, short_path: Path) -> None:
    file = write_access(tmp_path / "access.json")
    flags = ("--access", file, "--unix", str(short_path), "--tls-certificate", str(RSA))
    with running(tmp_path, *flags) as daemon:
        with over_unix(short_path) as connection:
            assert connection.auth("admin")["reply"] == "welcome"
        with over_tls(daemon) as connection:
            assert connection.auth("admin")["reply"] == "welcome"


def test_a_socket_that_a_kill_left_is_replaced(tmp_path: Path, short_path: Path) -> None:
    with running(tmp_path, "--unix", str(short_path)) as daemon:
        daemon.kill()
        assert short_path.is_socket()
    with running(tmp_path, "--unix", str(short_path)), over_unix(short_path) as connection:
        assert connection.ask("ping") == {"reply": "pong"}


def test_a_live_socket_is_not_replaced(tmp_path: Path, short_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with running(tmp_path, "--unix", str(short_path)):
        assert "Address already in use" in refused(tmp_path / "other", short_path)
        with over_unix(short_path) as connection:
            assert connection.ask("ping") == {"reply": "pong"}


def test_a_socket_that_answers_slowly_is_not_replaced(tmp_path: Path, short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(short_path))
        busy.listen(0)
        # Its queue is full.
        waiting.connect(str(short_path))
        inode = short_path.stat().st_ino
        refused(tmp_path, short_path)
        assert short_path.stat().st_ino == inode


@pytest.mark.parametrize("there", ["file", "folder", "pipe", "link to a file", "nothing above", "too long"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, short_path: Path, there: str) -> None:
    path = short_path
    target = short_path.with_name("target")
    if there == "file":
        path.write_text("mine")
    elif there == "folder":
        path.mkdir()
    elif there == "pipe":
        os.mkfifo(path)
    elif there == "link to a file":
        target.write_text("mine")
        path.symlink_to(target)
    elif there == "nothing above":
        path = short_path / "nope" / "socket"
    else:
        path = short_path.with_name("x" * 120)
    line = refused(tmp_path, path)
    assert line.startswith(f"ticketd: cannot listen on {path}: ")
    assert line.endswith("; choose another --unix")
    if there in ("file", "link to a file"):
        assert path.read_text() == "mine"
    assert path.is_dir() == (there == "folder")
    if there not in ("nothing above", "too long"):
        assert "it exists and is no socket" in line
        assert not (tmp_path / "events.db").exists()


def test_its_file_is_gone_after_an_end_in_good_order(tmp_path: Path, short_path: Path) -> None:
    with running(tmp_path, "--unix", str(short_path)) as daemon:
        assert short_path.is_socket()
        assert daemon.end() == 0
        assert not short_path.exists()
