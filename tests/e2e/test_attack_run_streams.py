"""Standard streams that are closed, full or gone: the agent's exit code and the record stay what they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentgov.layout import StateHome
from tests.conftest import MakeRepo
from tests.support.running import Record


@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-", "2>&-", "> /dev/full", "2> /dev/full"])
def test_a_run_passes_its_code_on_and_ends_in_good_order(
    make_repo: MakeRepo, state: StateHome, streams: str
) -> None:
    repo = make_repo()
    agent = "sh -c 'echo x > x; ls -l /proc/self/fd/ > fds; exit 6'"
    line = f"'{sys.executable}' -m agentgov run -- {agent} {streams}"
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=repo,
        env={**os.environ, "AGENTGOV_HOME": str(state.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 6
    (found,) = Record(repo, state).runs.values()
    assert (found.state, found.end is not None) == ("finished", True)
    assert not [line for line in _fds(state) if "agentgov" in line]


def _fds(state: StateHome) -> list[str]:
    (listing,) = Path(state.root).glob("workspaces/*/*/fds")
    return listing.read_text().splitlines()
