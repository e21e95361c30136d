"""Processor time: what a server computes for each booking. It varies less from run to run than rates do."""

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.bench.table import Figures, Way


class Cpu(NamedTuple):
    """Seconds, in programs and in the kernel."""

    user: float
    system: float


def cpu_seconds(*pids: int) -> Cpu:
    """Return how long processes have computed, all their threads and children, those that have ended too."""
    family = _family(pids)
    # A child that ends meanwhile is counted twice or not at all.
    while (again := _family(pids)).keys() != family.keys():
        family = again
    user, system = (sum(ticks) / os.sysconf("SC_CLK_TCK") for ticks in zip(*again.values(), strict=True))
    return Cpu(user, system)


def with_cpu(way: Way, *pids: int) -> Figures:
    """Measure something, and what these processes computed meanwhile, for each time that it was done."""
    before = cpu_seconds(*pids)
    figures = way()
    return charged(figures, before, cpu_seconds(*pids))


def charged(figures: Figures, before: Cpu, after: Cpu) -> Figures:
    """Return the figures with what was computed in between, for each time that it was done."""
    assert figures.done
    figures.user_us, figures.system_us = (
        (now - then) * 1e6 / figures.done for now, then in zip(after, before, strict=True)
    )
    return figures


def _family(pids: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Return the ticks of processes and their children, of those that a process has waited for too."""
    wanted = set(map(str, pids))
    ticks = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            _, parent, *fields = stat.read_text().rpartition(")")[2].split()
            if {stat.parent.name, parent} & wanted:
                user, system, user_ended, system_ended = map(int, fields[9:13])
                ticks[stat.parent.name] = (user + user_ended, system + system_ended)
    return ticks
