"""ticketd on a machine that looks up its users in vain: ``python -m tests.slow_names``.

It is as slow as it can be while there is a file HANGS, and makes a file ASKED when it is asked meanwhile.
"""

import os
import pwd
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ticketd import cli


def slow(look_up: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def run(of: Any) -> Any:
        while Path(os.environ["HANGS"]).exists():
            Path(os.environ["ASKED"]).touch()
            time.sleep(0.01)
        return look_up(of)

    return run


def main() -> None:
    for name in ("getpwnam", "getpwuid"):
        setattr(pwd, name, slow(getattr(pwd, name)))
    cli.main()


if __name__ == "__main__":
    main()
