"""A helper of `agentgov verify`: reads batches of signed lines on stdin, answers each on stdout.

It is started by `verify_signatures` only, with `python -m`; the form of both streams is that module's.
"""

from __future__ import annotations

import sys

from agentgov.ledger.verify_signatures import serve

if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
