"""Flags, environment variables and the config file: which of them counts, and what is said of one that is wrong."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon import running, write_events
from tests.man import pages
from ticketd import __version__
from ticketd.config import STATUS_ENDED, STATUS_USAGE, Limits, Options, Settings
from ticketd.settings import parse

Write = Callable[[str], str]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*Settings.__struct_fields__, *Limits.__struct_fields__, "config"):
        monkeypatch.delenv(f"TICKETD_{name.upper()}", raising=False)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a config file, and return its path."""

    def written(text: str) -> str:
        path = tmp_path / "sale.toml"
        path.write_text(text)
        return str(path)

    return written


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what is said of arguments that are refused."""
    with pytest.raises(SystemExit) as ended:
        parse([*arguments])
    assert ended.value.code == STATUS_USAGE
    usage, _, said = capsys.readouterr().err.rpartition("ticketd: error: ")
    assert usage.startswith("usage: ticketd ")
    return said.rstrip("\n")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        parse(["--print-config", *arguments])
    assert ended.value.code == STATUS_ENDED
    return capsys.readouterr().out


def test_a_flag_wins_over_a_variable_and_that_over_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("port = 1\nidle-seconds-max = 1\nconnections-max = 40\nhost = '127.0.0.9'")
    monkeypatch.setenv("TICKETD_PORT", "2")
    monkeypatch.setenv("TICKETD_IDLE_SECONDS_MAX", "2.5")
    options = parse(["--config", path, "--port", "3"])
    assert (options.port, options.limits.idle_seconds_max, options.limits.connections_max) == (3, 2.5, 40)
    assert options.host == "127.0.0.9"
    # One address gets a quarter.
    assert options.limits.connections_per_address_max == 10


def test_the_config_file_may_be_named_by_a_variable(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKETD_CONFIG", write("port = 7"))
    assert parse([]).port == 7


def test_a_daemon_runs_with_a_config_file(tmp_path: Path, write: Write) -> None:
    write_events(tmp_path, 5)
    path = write('no-words = true\nconnections-waiting-max = 3\nlog-format = "json"\nmetrics = 0')
    with running(tmp_path, "--config", path) as daemon, daemon.connect() as connection:
        assert connection.ask("ping")["code"] == "bad_frame"
        assert " metrics=127.0.0.1:" in daemon.lines[-1]


def test_everything_that_a_file_may_say_is_taken(write: Write) -> None:
    options = parse(
        [
            "--config",
            write(
                'host = "::1"\nport = 0\nevents = "a.json"\nledger = "b.db"\nunix = "s"\nunix-mode = "660"\n'
                'access = "c.json"\nopen-to-the-network = true\ntls-certificate = "d"\ntls-key = "e"\n'
                'plain-tokens = true\nno-words = true\nmetrics = "[::1]:9090"\nlog-level = "WARNING"\n'
                'log-format = "json"\nlog-sales = true\nidle-seconds-max = 5'
            ),
        ]
    )
    assert options == Options(
        host="::1",
        port=0,
        events=Path("a.json"),
        sync_events=True,
        ledger="b.db",
        accept_losses=False,
        limits=Limits(idle_seconds_max=5.0),
        log_level="warning",
        log_format="json",
        log_sales=True,
        metrics=("::1", 9090),
        access=Path("c.json"),
        open_to_the_network=True,
        plain_tokens=True,
        words=False,
        unix=Path("s"),
        unix_mode=0o660,
        tls_certificate=Path("d"),
        tls_key=Path("e"),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("conections-max = 5", 'has an unknown key "conections-max"; did you mean connections-max?'),
        ("connections_max = 5", 'has an unknown key "connections_max"; did you mean connections-max?'),
        ("[limits]\nport = 5", 'has an unknown key "limits"; ticketd --print-config shows all settings'),
        ("accept-losses = true", 'has an unknown key "accept-losses"; '),
        ("port = 70000", "port in {path} must be a whole number from 0 to 65535, not 70000"),
        ('port = "80"', 'port in {path} must be a whole number from 0 to 65535, not "80"'),
        ("port = 1.5", "port in {path} must be a whole number from 0 to 65535, not 1.5"),
        ("port = nan", "port in {path} must be a whole number from 0 to 65535, not null"),
        ("no-words = 1", "no-words in {path} must be true or false, not 1"),
        ("idle-seconds-max = 0", "idle-seconds-max in {path} must be a number above 0, up to 86400, not 0"),
        ("log-level = 'loud'", 'log-level in {path} must be one of debug, info, warning, error, not "loud"'),
        ("host = 2027-03-11", 'host in {path} must be a name or an address, not "2027-03-11"'),
        # In decimal digits it would be another mode.
        ("unix-mode = 0o660\nunix = 's'", "unix-mode in {path} must be three octal digits, such as 660, not 432"),
        ("unix-mode = 6\nunix = 's'", "unix-mode in {path} must be three octal digits, such as 660, not 6"),
        ("unix-mode = '600'", "unix-mode in {path} needs --unix"),
        ("tls-key = 'key.pem'", "tls-key in {path} needs --tls-certificate"),
        ("metrics = 'here'", 'metrics in {path} must be PORT or HOST:PORT, not "here"'),
        ("metrics = 99999", 'metrics in {path} must have a port from 0 to 65535, not "99999"'),
        ("ledger = ''", "TICKETD_LEDGER or --ledger is empty; leave it out for a ledger beside the events file"),
        ("ledger = 'mysql://me:secret@host/db'", "ledger in {path} must be a path or a URL that begins with"),
        ("port 5", "is not TOML: "),
        ("port = 5\nport = 6", "is not TOML: "),
        ("[" * 5_000, "is not TOML: "),
    ],
)
def test_what_is_wrong_in_a_file_is_named(
    write: Write, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = write(text)
    told = refusal(capsys, "--config", path)
    assert said.format(path=path) in told
    assert path in told or "TICKETD_LEDGER" in told
    assert "\n" not in told
    assert "secret" not in told


def test_an_empty_variable_for_the_ledger_is_refused_unless_a_flag_names_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKETD_LEDGER", "")
    assert "TICKETD_LEDGER or --ledger is empty" in refusal(capsys)
    assert parse(["--ledger", "sale.db"]).ledger == "sale.db"


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file or directory"), (b"\xff", "is not UTF-8"), (b"#" * (1 << 20) + b"#", "larger than 1 MiB")],
    ids=["missing", "binary", "large"],
)
def test_a_config_file_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    path = tmp_path / "sale.toml"
    if content is not None:
        path.write_bytes(content)
    told = refusal(capsys, "--config", str(path))
    assert str(path) in told
    assert said in told


def test_what_is_printed_is_a_config_file_that_says_the_same(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--port", "0", "--no-words", "--connections-max", "9", "--unix", 'a "b"\\\x7f', "--log-level", "DEBUG"]
    text = printed(capsys, *arguments)
    assert tomllib.loads(text) == {
        "port": 0,
        "no-words": True,
        "connections-max": 9,
        "unix": 'a "b"\\\x7f',
        "log-level": "debug",
    }
    assert "port = 0  # --port\n" in text
    assert "# connections-per-address-max = 2\n" in text
    assert parse(["--config", write(text)]) == parse(arguments)


def test_all_settings_are_printed_and_may_be_set(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys).splitlines()
    assert [line.removeprefix("# ").partition(" =")[0].replace("-", "_") for line in lines] == [
        *Settings.__struct_fields__,
        *Limits.__struct_fields__,
    ]
    text = "\n".join(line.removeprefix("# ") for line in lines if not line.endswith("="))
    assert parse(["--config", write(text.replace("unix-mode", "# unix-mode"))]) == parse([])


def test_the_manual_page_has_a_variable_for_each_setting_with_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    values = re.findall(r"^# ([a-z-]+) =(?! false| true)", printed(capsys), re.MULTILINE)
    variables = {f"TICKETD_{name.upper().replace('-', '_')}" for name in ("config", *values)}
    [section] = re.findall(r"^\.SH ENVIRONMENT$(.*?)^\.SH", pages()["ticketd.8"], re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"TICKETD_\w+", section)) == variables


def test_what_is_printed_says_where_it_is_from_and_no_passwords(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKETD_LEDGER", "postgresql://sales:hidden@db/tickets")
    path = write("host = '127.0.0.1'")
    text = printed(capsys, "--config", path)
    assert 'ledger = "postgresql://sales@db/tickets"  # TICKETD_LEDGER\n' in text
    assert f'host = "127.0.0.1"  # host in {path}\n' in text
    assert "hidden" not in text


def test_short_flags_do_what_the_long_ones_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["-H", "127.0.0.2", "-p", "9"]) == parse(["--host", "127.0.0.2", "--port", "9"])
    with pytest.raises(SystemExit):
        parse(["-V"])
    assert capsys.readouterr().out == f"ticketd {__version__}\n"


@pytest.mark.parametrize(
    ("typed", "address"),
    [("9090", ("127.0.0.1", 9090)), ("10.0.0.5:9090", ("10.0.0.5", 9090)), ("[::]:0", ("::", 0)), (":80", None)],
)
def test_metrics_are_on_loopback_unless_an_address_is_given(
    capsys: pytest.CaptureFixture[str], typed: str, address: tuple[str, int] | None
) -> None:
    if address is None:
        assert "--metrics must be PORT or HOST:PORT" in refusal(capsys, "--metrics", typed)
    else:
        assert parse(["--metrics", typed]).metrics == address
