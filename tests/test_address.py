"""An address that nobody guards is refused before anything is made, and both ways out are named."""

from pathlib import Path

import pytest

from tests.daemon import Daemon


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "::"])
def test_a_refused_address_leaves_no_ledger_behind(host: str, tmp_path: Path) -> None:
    daemon = Daemon("--host", host, "--port", "0", cwd=tmp_path)
    assert daemon.wait() == 3
    [line] = daemon.lines
    assert line.startswith(f"ticketd: whoever reaches {f'[{host}]' if ':' in host else host}:0 could sell")
    assert "--access FILE" in line
    assert "--open-to-the-network" in line
    assert list(tmp_path.iterdir()) == []
