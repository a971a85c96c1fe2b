"""The console script: hands over to the command line, which is imported only here.

Rule: importing this module costs nothing, so that tools may import `agentgov` without a terminal library.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    from agentgov.cli.app import main as run_cli

    return run_cli()


if __name__ == "__main__":
    sys.exit(main())
