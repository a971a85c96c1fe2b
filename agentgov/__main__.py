"""The console script: hands over to the command line, which is imported only here.

Rule: importing this module costs nothing, so that tools may import `agentgov` without a terminal library.
"""

from __future__ import annotations

import os
import sys


def open_missing_streams() -> None:
    """Open the standard streams that were closed: otherwise the next file opened gets what is printed."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != fd:
                os.dup2(nowhere, fd)
                os.close(nowhere)
            os.set_inheritable(fd, True)
            setattr(sys, name, open(fd, "w" if fd else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def settle_streams() -> None:
    """Write out what is still held: at exit Python would answer a full disk with an exit code of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Nobody can be told any more; the exit code is what is left, and it stays right.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def main() -> int:
    """Run the command line and return its exit code."""
    open_missing_streams()
    from agentgov.cli.app import main as run_cli

    code = run_cli()
    settle_streams()
    return code


if __name__ == "__main__":
    sys.exit(main())
