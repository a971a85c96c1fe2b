"""The bookkeeping of a live run."""

from __future__ import annotations

import json
from typing import Any

from agentgov.calls import ToolCall
from agentgov.harness.capture.base import HookEvent
from agentgov.harness.capture.claude import ClaudeCapture
from tests.support.recording import Rig, hook_input, tree


def event(name: str, *args: Any, **more: Any) -> tuple[HookEvent, ToolCall]:
    parsed = ClaudeCapture().parse(name, hook_input(name, *args, **more))
    assert parsed.call is not None
    return parsed, parsed.call


def begin(rig: Rig, call_id: str, command: str = "true", **more: Any) -> int:
    n = rig.session.announce(*event("PreToolUse", call_id, command, **more)).n
    rig.session.commit()
    return n


def finish(rig: Rig, call_id: str) -> bool:
    done = rig.session.finish(*event("PostToolUse", call_id))
    rig.session.commit()
    return done


def steps(rig: Rig) -> list[dict[str, Any]]:
    return [draft.body for draft in rig.drafts if "from" in draft.body]


def owners(rig: Rig, body: dict[str, Any]) -> list[list[int]]:
    return [file["calls"] for file in json.loads(rig.payloads.kept[body["changes"]][1])]


def test_a_change_under_one_call_is_that_calls() -> None:
    rig = Rig()
    n = begin(rig, "t1")
    rig.snapshots.now = tree(2)
    assert finish(rig, "t1")
    result = rig.bodies("call.result")[0]
    assert (result["n"], result["from"], result["tree"], result["open"]) == (n, tree(1), tree(2), [n])
    assert owners(rig, result) == [[n]]
    assert rig.session.counts.lines.with_call == rig.session.counts.lines.total == 1


def test_a_change_between_calls_is_nobodys_and_comes_first() -> None:
    rig = Rig()
    begin(rig, "t1")
    finish(rig, "t1")
    rig.snapshots.now = tree(2)
    begin(rig, "t2")
    assert rig.kinds()[-2:] == ["change.unattributed", "call.request"]
    assert rig.bodies("change.unattributed")[0]["open"] == []
    assert owners(rig, rig.bodies("change.unattributed")[0]) == [[]]
    assert rig.session.counts.lines.with_call == 0


def test_the_trees_of_overlapping_calls_form_one_sequence() -> None:
    rig = Rig()
    one = begin(rig, "t1")
    rig.snapshots.now = tree(2)
    two = begin(rig, "t2")
    rig.snapshots.now = tree(3)
    finish(rig, "t1")
    rig.snapshots.now = tree(4)
    finish(rig, "t2")
    seen = steps(rig)
    assert [body["from"] for body in seen] == [tree(1), *(body["tree"] for body in seen[:-1])]
    assert [body["open"] for body in seen] == [[], [one], [one, two], [two]]
    assert seen[2]["changes"] is not None
    assert owners(rig, seen[2]) == [[one, two]]


def test_events_of_one_batch_share_one_snapshot_and_one_append() -> None:
    rig = Rig()
    begin(rig, "t1")
    begin(rig, "t2")
    taken, appended = rig.snapshots.taken, len(rig.batches)
    rig.snapshots.now = tree(2)
    rig.session.finish(*event("PostToolUse", "t1"))
    rig.session.announce(*event("PreToolUse", "t3"))
    rig.session.finish(*event("PostToolUse", "t2"))
    rig.session.commit()
    assert rig.snapshots.taken == taken + 1
    assert rig.batches[appended:] == [3]


def test_payloads_are_durable_before_the_entries_that_commit_to_them() -> None:
    rig = Rig()
    begin(rig, "t1")
    assert rig.events == ["sync", "append"]


def test_a_denied_call_is_not_open_and_gets_no_result() -> None:
    rig = Rig({"rm": "deny"})
    n = begin(rig, "t1", "rm")
    rig.snapshots.now = tree(2)
    begin(rig, "t2")
    assert rig.bodies("call.request")[0]["verdict"]["decision"] == "deny"
    assert rig.kinds()[1] == "change.unattributed"
    assert [denied.n for denied in rig.session.denied] == [n]
    assert not finish(rig, "t1")


def test_a_call_that_waits_is_not_open_until_it_is_allowed() -> None:
    rig = Rig({"curl": "ask"})
    n = begin(rig, "t1", "curl")
    assert rig.session.open_calls == []
    rig.snapshots.now = tree(2)
    assert rig.session.settle_ask(n, allow=True, by="operator") is not None
    rig.session.commit()
    assert rig.kinds() == ["call.request", "change.unattributed", "call.answer"]
    assert [live.n for live in rig.session.open_calls] == [n]
    assert rig.session.settle_ask(n, allow=True, by="operator") is None


def test_a_result_without_a_call_is_counted_and_its_change_is_nobodys() -> None:
    rig = Rig()
    rig.snapshots.now = tree(2)
    assert not finish(rig, "never-seen")
    assert rig.kinds() == ["change.unattributed"]
    assert rig.session.counts.unrecorded == 1


def test_a_call_id_that_comes_twice_is_two_calls() -> None:
    rig = Rig()
    assert (begin(rig, "t1"), begin(rig, "t1")) == (1, 2)
    finish(rig, "t1")
    finish(rig, "t1")
    assert [body["n"] for body in rig.bodies("call.result")] == [1, 2]


def test_sub_agents_are_numbered_once_and_know_their_parent() -> None:
    rig = Rig()
    agent: dict[str, Any] = {"tool_name": "Agent", "tool_input": {"subagent_type": "tester"}}
    begin(rig, "a1", **agent)
    begin(rig, "t1", agent_id="sub")
    begin(rig, "a2", agent_id="sub", **agent)
    begin(rig, "t2", agent_id="subsub")
    begin(rig, "t3", agent_id="sub")
    assert [(body["actor"], body["parent"]) for body in rig.bodies("actor.seen")] == [(1, 0), (2, 1)]
    assert [body["actor"] for body in rig.bodies("call.request")] == [0, 1, 1, 2, 1]


def test_the_end_closes_what_is_open_after_a_full_look() -> None:
    rig = Rig({"curl": "ask"})
    n = begin(rig, "t1")
    waiting = begin(rig, "t2", "curl")
    rig.snapshots.now = tree(2)
    rig.session.end("stopped", 130, 2)
    answer, result, end = rig.drafts[-3:]
    assert (answer.body["n"], answer.body["by"]) == (waiting, "run-ended")
    assert (result.body["n"], result.body["status"], result.body["how"]) == (n, "interrupted", "full")
    assert (end.body["state"], end.body["exit"], end.body["ended"], end.body["open"]) == (
        "stopped",
        130,
        2,
        [],
    )
    assert end.body["from"] == end.body["tree"] == tree(2)


def test_an_odd_tool_name_stands_as_other_and_whole_in_the_payload() -> None:
    rig = Rig()
    begin(rig, "t1", tool_name="we\x1bird tool", tool_input={"x": "\ud800"})
    body = rig.bodies("call.request")[0]
    assert body["tool"] == "other"
    assert json.loads(rig.payloads.kept[body["args"]][1])["tool"] == "we\x1bird tool"


def test_an_idle_batch_writes_nothing() -> None:
    rig = Rig()
    rig.session.look()
    rig.session.commit()
    assert rig.events == []
