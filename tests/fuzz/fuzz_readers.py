"""The fuzz target over everything that reads bytes from outside; README.md here says how to run it."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["agentgov"]):
    from tests.support.untrusted import READERS, expect


def one_input(data: bytes) -> None:
    """Give one input to one reader; anything but its value or its own error is a finding."""
    if data:
        expect(READERS[data[0] % len(READERS)], data[1:])


def write_seeds(corpus: Path) -> None:
    """Begin with what each reader takes, or nearly takes."""
    for number, reader in enumerate(READERS):
        (corpus / f"seed-{number}").write_bytes(bytes([number]) + reader.seed)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if not argument.startswith("-"):
            write_seeds(Path(argument))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
