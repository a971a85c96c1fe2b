"""Any order of appending, sealing, sleeping, reopening and tearing, against a plain list."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.stream import Stream
from tests.support.ledger import OTHER_RUN, RUN, init, numbers, open_stream, request, verify_all

RUNS: tuple[RunId, RunId] = (RUN, OTHER_RUN)
STEPS = st.sampled_from(["append", "batch", "seal", "reopen", "torn", "end"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 1), STEPS), max_size=14))
def test_the_record_is_what_was_appended_in_that_order(steps: list[tuple[int, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        repository = init(Path(folder) / "r")
        state = StateHome(Path(folder) / "state")
        streams: list[Stream] = [open_stream(repository, state) for _ in RUNS]
        signers = [stream.delegate(run) for stream, run in zip(streams, RUNS, strict=True)]
        expected: list[list[int]] = [[], []]
        boundaries: list[int] = []
        torn = 0
        for who, step in steps:
            stream, mine = streams[who], expected[who]
            if step in ("append", "batch"):
                drafts = [request(len(mine) + 1 + i, RUNS[who]) for i in range(3 if step == "batch" else 1)]
                mine += [draft.body["n"] for draft in drafts]
                stream.append(drafts, signers[who])
            elif step == "seal":
                checkpoint = stream.seal()
                boundaries += [checkpoint.size] if checkpoint is not None else []
            elif step == "reopen":
                stream.close()
                streams[who] = open_stream(repository, state)
            elif step == "torn":
                with max(repository.layout.wal.iterdir()).open("ab") as file:
                    file.write(b'{"body"')
                stream.head()
                torn += 1
            else:
                stream.end_key(signers[who])
                signers[who] = stream.delegate(RUNS[who])
        entries = list(streams[0].entries())
        assert [numbers(entries, run) for run in RUNS] == expected
        assert [s.entry.kind for s in entries].count("log.recovered") == torn
        assert streams[0].head() == streams[1].head()
        live = {key.seq for key in verify_all(entries, boundaries).live()}
        assert live == {signer.key_seq for signer in signers}
        for stream in streams:
            stream.close()
