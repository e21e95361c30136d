"""Imports point one way, as CONTRIBUTING.md draws them, and never in a circle."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the top: each may import what stands below it, and itself.
LAYERS = [
    ("__main__",),
    ("cli",),
    ("daemon", "tools", "settings"),
    ("listeners",),
    ("security",),
    ("serving",),
    ("commits",),
    ("ledger",),
    ("rules",),
    ("ids", "config", "deadline", "disk_thread", "logs", "access_file", "certificate", "systemd"),
    ("wire",),
    ("model",),
    ("errors",),
    ("__init__",),
]
CLIENT_MAY_IMPORT = ("ticketd.wire", "ticketd.model", "ticketd.errors", "ticketd.ids", "ticketd.__init__")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def files(package: str) -> dict[str, Path]:
    return {module_of(path): path for path in (ROOT / package).rglob("*.py")}


FILES = files("ticketd") | files("ticketctl")


def imported(path: Path) -> Iterator[str]:
    """Yield the modules of ours that a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names):
                named = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), names=names, level=0):
                named = [f"{module}.{alias.name}" for alias in names]
            case ast.ImportFrom(level=level) if level:
                pytest.fail(f"{path}: imports are absolute")
            case _:
                continue
        for name in named:
            # ``from package import module``, or ``from package.module import name``, or from the package itself.
            package = name.rpartition(".")[0]
            found = next(
                (each for each in (name, package, f"{name}.__init__", f"{package}.__init__") if each in FILES), None
            )
            if found:
                yield found


ARROWS = {module: set(imported(path)) for module, path in FILES.items()}


def layer_of(module: str) -> int:
    """Return how far from the top a module of ticketd stands."""
    part = module.split(".")[1]
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


@pytest.mark.parametrize("module", [module for module in FILES if module.startswith("ticketd.")])
def test_a_module_imports_only_what_stands_below_it(module: str) -> None:
    inside = [each for each in ARROWS[module] if each.startswith("ticketd.")]
    assert [each for each in inside if layer_of(each) < layer_of(module)] == []
    assert [each for each in ARROWS[module] if each.startswith("ticketctl.")] == []


@pytest.mark.parametrize("module", [module for module in FILES if module.startswith("ticketctl.")])
def test_the_client_imports_only_the_wire_contract(module: str) -> None:
    foreign = [each for each in ARROWS[module] if each.startswith("ticketd.")]
    assert [each for each in foreign if not each.startswith(CLIENT_MAY_IMPORT)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    # It names the circle, if there is one.
    TopologicalSorter(ARROWS).prepare()


def test_the_sieve_sees_every_kind_of_import() -> None:
    assert "ticketd.wire.codec" in ARROWS["ticketd.serving.session"]
    assert "ticketd.ledger.postgres.ledger" in ARROWS["ticketd.daemon"], "within a function"
    assert "ticketd.__init__" in ARROWS["ticketd.serving.service"]
    assert len(FILES) > 50
