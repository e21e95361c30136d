"""Coverage-guided fuzzing of bytes to replies: ``python -m tests.faults.fuzz [arguments of libFuzzer] [corpus]``."""

import sys

import atheris

INSTRUMENTED = ["framing", "protocol", "words", "declared", "rules", "books", "model", "session"]

with atheris.instrument_imports(include=[f"ticketd.{room}" for room in INSTRUMENTED]):
    from tests.faults.input import converse


def main() -> None:
    atheris.Setup(sys.argv, converse)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
