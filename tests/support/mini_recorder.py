"""The smallest thing that runs an agent as the recorder does; tests start it on real terminals.

Environment: MINI_LOG names a file that gets one line per thing that happened.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

from agentgov.errors import AgentgovError
from agentgov.harness.process import AgentProcess
from agentgov.harness.terminal import plan_ownership


def log(*words: object) -> None:
    with open(os.environ["MINI_LOG"], "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def main(argv: list[str]) -> int:
    ownership = plan_ownership()
    try:
        agent = AgentProcess.start(argv, cwd=Path.cwd(), env=dict(os.environ), ownership=ownership)
    except AgentgovError as error:
        log("failed", error.id)
        return int(error.exit_code)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: agent.terminate(1.0))
    signal.signal(signal.SIGINT, lambda number, frame: agent.forward(number))
    log("started", os.getpid(), agent.supervisor_pid, agent.pid, ownership)
    with agent:
        while not agent.handle():
            select.select([agent.fd], [], [])
        ended = agent.ended
    assert ended is not None
    log("ended", ended.code, ended.signal, ended.ended, ended.left, ended.lost)
    return ended.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
