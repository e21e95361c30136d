"""Coverage-guided fuzzing of bytes to replies: ``python -m tests.faults.fuzz [arguments of libFuzzer] [corpus]``."""

import sys

import atheris

with atheris.instrument_imports(include=["ticketd"]):
    from tests.faults.pure import converse


def main() -> None:
    atheris.Setup(sys.argv, converse)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
