"""agentgov: record, verify, take back and promote what coding agents do, call by call.

Rules of this package's base modules: no terminal, no home folder, no exit; nothing heavy is imported at
import time, because the hook path and `agentgov --help` pay for every import.
"""

__version__ = "0.1.0"
