"""ticketctl over a unix socket: ``--host unix:PATH``."""

import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.conftest import ctl, interrupt, start_ctl, terminal
from tests.daemon import Daemon, running, write_events
from tests.guarded import guarded
from tests.secured import RSA
from ticketd import access_file

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unix")


@pytest.fixture(scope="module")
def host(folder: Path) -> str:
    """What ``--host`` takes for the daemon of this file."""
    return f"unix:{folder / 'sock et'}"


@pytest.fixture(scope="module", autouse=True)
def served(folder: Path, host: str) -> Iterator[Daemon]:
    write_events(folder, 100, 200)
    with running(folder, "--unix", host.removeprefix("unix:")) as daemon:
        yield daemon


def test_ticketctl_sells_over_a_unix_socket(host: str) -> None:
    done = ctl("--host", host, "book", "1", "2", "--booking", "anna")
    assert (done.returncode, done.stderr) == (0, "")
    assert ctl("show", "anna", env={"TICKETD_HOST": host}).stdout.startswith("anna\t1\t2\tconfirmed\t98\t")


def test_watch_works_over_a_unix_socket(host: str, served: Daemon) -> None:
    watching = start_ctl("--host", host, "--json", "watch", "2", port=served.port)
    assert watching.stdout
    assert msgspec.json.decode(watching.stdout.readline())["available"] == 200
    ctl("--host", host, "book", "2", "1")
    assert msgspec.json.decode(watching.stdout.readline())["available"] == 199
    assert interrupt(watching)[0] == 130


def test_the_shell_names_the_unix_socket(host: str, tmp_path: Path, served: Daemon) -> None:
    with terminal("--host", host, port=served.port, env={"XDG_STATE_HOME": str(tmp_path)}) as screen:
        screen.expect_exact(f"at {host}, 2 events.")
        screen.expect_exact(f"{host}>")


def test_a_unix_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none", "no such file or directory"), (tmp_path / ("x" * 200), "path too long")):
        done = ctl("--host", f"unix:{path}", "list")
        assert (done.returncode, done.stdout) == (3, "")
        assert f"cannot reach unix:{path} (" in done.stderr
        assert why in done.stderr
        assert "Traceback" not in done.stderr


def test_a_host_that_is_no_unix_socket_is_refused(host: str) -> None:
    no_tls = "a unix socket has no TLS; leave out --tls and --tls-ca"
    for words, why in (
        (["--host", "unix:"], "the host unix: needs the path of a socket, such as unix:/run/ticketd/socket"),
        (["--host", host, "--tls"], no_tls),
        (["--host", host, "--tls-ca", str(RSA)], no_tls),
    ):
        done = ctl(*words, "list")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"ticketctl: {why}\n")


def test_the_variable_for_hosts_does_not_matter_on_a_unix_socket(host: str) -> None:
    assert ctl("--host", host, "list", env={"TICKETD_TLS_CA": str(RSA)}).returncode == 0


def test_the_settling_command_names_the_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "silent one"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        done = ctl("--host", f"unix:{path}", "--timeout", "0.5", "book", "1", "1", "--booking", "b")
    assert done.returncode == 4
    assert done.stderr.splitlines()[1] == f"  ticketctl --host 'unix:{path}' book 1 1 --booking b"


def test_a_user_of_this_machine_has_a_role_without_a_token(tmp_path: Path) -> None:
    with guarded(tmp_path, "--unix", str(tmp_path / "socket")) as shop:
        words = ("--host", f"unix:{tmp_path / 'socket'}")
        assert "give your token with --token-file" in ctl(*words, "list").stderr
        access = access_file.read(shop.access)
        access.users = {pwd.getpwuid(os.getuid()).pw_name: "reader"}
        access_file.write(shop.access, access)
        shop.reload()
        assert ctl(*words, "list").returncode == 0
        assert "book needs the role seller, and you are reader" in ctl(*words, "book", "1", "1").stderr
        # A token says who somebody is, whatever user runs it.
        sold = ctl(*words, "--token-file", shop.token_file("seller"), "book", "1", "1")
        assert sold.returncode == 0
