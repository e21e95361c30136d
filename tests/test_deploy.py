"""The files for operators: systemd accepts the units, and the dashboard shows what the daemon serves."""

import re
import shutil
import subprocess
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.daemon import running, write_events
from ticketd.settings import parse

DEPLOY = Path(__file__).parent.parent / "deploy"
ANALYZE = shutil.which("systemd-analyze")
# As `systemd-analyze security` counts: 0 is no exposure, 10 is all. Up to 2 it says that this is OK.
EXPOSURE_MAX = 2.0


def analyzed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on the units, in which ticketd is a program that exists."""
    assert ANALYZE
    service = (DEPLOY / "ticketd.service").read_text()
    (folder / "ticketd.service").write_text(service.replace("/opt/ticketd/bin/ticketd", "/bin/true"))
    shutil.copy(DEPLOY / "ticketd.socket", folder)
    return subprocess.run(
        [ANALYZE, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )


@pytest.mark.skipif(not ANALYZE, reason="there is no systemd-analyze")
def test_systemd_has_nothing_to_say_against_the_units(tmp_path: Path) -> None:
    done = analyzed(tmp_path, "verify", "./ticketd.service", "./ticketd.socket")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(not ANALYZE, reason="there is no systemd-analyze")
def test_the_service_is_hardly_exposed(tmp_path: Path) -> None:
    if "--offline" not in subprocess.run([str(ANALYZE), "--help"], capture_output=True, text=True).stdout:
        pytest.skip("this systemd-analyze is too old to look at a file")
    done = analyzed(tmp_path, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX * 10:.0f}", "./ticketd.service")
    assert done.returncode == 0, done.stdout


def test_the_units_give_what_the_daemon_needs() -> None:
    service = (DEPLOY / "ticketd.service").read_text()
    # It tells when it is ready, and systemd counts on that.
    assert "\nType=notify\n" in service
    stop = re.search(r"^TimeoutStopSec=(\d+)$", service, re.MULTILINE)
    assert stop
    assert int(stop[1]) > parse([]).limits.drain_seconds_max


def test_the_config_file_is_valid(tmp_path: Path) -> None:
    text = (DEPLOY / "ticketd.toml").read_text()
    assert parse(["--config", str(DEPLOY / "ticketd.toml")]).metrics == ("127.0.0.1", 9464)
    # What is there as a comment, too.
    file = tmp_path / "all.toml"
    file.write_text(re.sub(r"^# (?=[\w-]+ = )", "", text, flags=re.MULTILINE))
    assert len(tomllib.loads(file.read_text())) == 4
    assert parse(["--config", str(file)]).access == Path("access.json")


def expressions(node: Any) -> list[str]:
    """Return all queries of a dashboard."""
    if isinstance(node, dict):
        own = [node[name] for name in ("expr", "definition") if name in node]
        return own + [each for value in node.values() for each in expressions(value)]
    return [each for value in node for each in expressions(value)] if isinstance(node, list) else []


def test_the_daemon_serves_each_metric_of_the_dashboard(tmp_path: Path) -> None:
    dashboard = msgspec.json.decode((DEPLOY / "grafana.json").read_bytes())
    queries = expressions(dashboard)
    asked = {name for query in queries for name in re.findall(r"\b(?:ticketd|process)_\w+", query)}
    assert len(queries) > 20
    write_events(tmp_path, 5)
    with running(tmp_path, "--metrics", "0") as daemon, daemon.connect() as connection:
        for line in ("book 1 1", "book 1 9", "list"):
            connection.ask(line)
        with urllib.request.urlopen(f"http://127.0.0.1:{daemon.metrics_port}/metrics", timeout=20) as answer:
            served = set(re.findall(r"^([a-z_]+)(?:\{| )", answer.read().decode(), re.MULTILINE))
    assert asked - served == set()
    labels = {label for query in queries for label in re.findall(r"by \((\w+)\)", query)}
    assert labels == {"command", "code", "le", "queue", "event"}
    assert not [panel["title"] for panel in dashboard["panels"] if not panel["targets"]]
