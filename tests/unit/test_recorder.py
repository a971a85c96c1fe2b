"""The recorder on a real socket: order, failure, and clients that mean harm."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agentgov.harness import clients
from agentgov.harness.capture.claude import HOOK_CLIENT
from tests.support.recording import LiveRecorder, Rig, hook_input, receive, tree


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_an_allowed_call_is_entered_before_the_agent_hears_of_it(path: Path) -> None:
    rig = Rig()
    with LiveRecorder(rig, path) as live:
        assert live.hook("PreToolUse") == (0, b"", b"")
        assert rig.kinds() == ["call.request"]
        rig.snapshots.now = tree(2)
        assert live.hook("PostToolUse") == (0, b"", b"")
        assert rig.bodies("call.result")[0]["tree"] == tree(2)
    assert live.recorder.state == "finished"


def test_a_denied_call_is_told_why_and_by_which_rule(path: Path) -> None:
    rig = Rig({"rm -rf important/": "deny"})
    with LiveRecorder(rig, path) as live:
        code, out, _ = live.hook("PreToolUse", "t1", "rm -rf important/")
    said = json.loads(out)["hookSpecificOutput"]
    assert (code, said["permissionDecision"]) == (0, "deny")
    assert "rule keep-it (.agentgov.toml:3)" in said["permissionDecisionReason"]
    assert "7kq2f:1" in said["permissionDecisionReason"]
    assert live.told.denials == [1]


def test_many_at_once_are_all_entered_with_fewer_appends(path: Path) -> None:
    rig = Rig()
    with LiveRecorder(rig, path) as live:
        connections = [live.connect() for _ in range(200)]
        for number, connection in enumerate(connections):
            raw = hook_input("PreToolUse", f"t{number}")
            connection.sendall(b"AG1 hook claude PreToolUse %d\n" % len(raw) + raw)
        assert {receive(connection)[0] for connection in connections} == {0}
    assert sorted(body["n"] for body in rig.bodies("call.request")) == list(range(1, 201))


@pytest.mark.parametrize("answer", ["allow", "deny"])
def test_a_call_waits_until_a_person_answers(path: Path, answer: str) -> None:
    rig = Rig({"curl": "ask"})
    with LiveRecorder(rig, path) as live:
        held = live.send("PreToolUse", hook_input("PreToolUse", "t1", "curl"))
        live.told.heard.wait()
        listed = json.loads(live.ask("pending")[1])["pending"]
        assert [(ask["id"], ask["what"]) for ask in listed] == [("7kq2f:1", "curl")]
        assert rig.kinds() == ["call.request"]
        assert live.ask("answer", json.dumps({"n": 1, "answer": answer}).encode())[0] == 0
        code, out, _ = receive(held)
        assert (code, out == b"") == (0, answer == "allow")
        assert live.ask("answer", json.dumps({"n": 1, "answer": "allow"}).encode())[0] == 15
    assert rig.bodies("call.answer") == [{"n": 1, "answer": answer, "by": "operator"}]


def test_no_answer_in_time_is_no(path: Path) -> None:
    rig = Rig({"curl": "ask"})
    with LiveRecorder(rig, path, ask_seconds=0.05) as live:
        _, out, _ = live.hook("PreToolUse", "t1", "curl")
    assert b"nobody answered in time" in out
    assert rig.bodies("call.answer") == [{"n": 1, "answer": "deny", "by": "timeout"}]


def test_a_held_call_whose_hook_is_gone_is_denied(path: Path) -> None:
    rig = Rig({"curl": "ask"})
    with LiveRecorder(rig, path) as live:
        held = live.send("PreToolUse", hook_input("PreToolUse", "t1", "curl"))
        live.told.heard.wait()
        held.close()
        while json.loads(live.ask("pending")[1])["pending"]:
            pass
    assert rig.bodies("call.answer") == [{"n": 1, "answer": "deny", "by": "timeout"}]


def test_the_end_of_the_run_answers_what_waits(path: Path) -> None:
    rig = Rig({"curl": "ask"})
    with LiveRecorder(rig, path) as live:
        held = live.send("PreToolUse", hook_input("PreToolUse", "t1", "curl"))
        live.told.heard.wait()
    assert b"the run is ending" in receive(held)[1]
    assert rig.bodies("call.answer") == [{"n": 1, "answer": "deny", "by": "run-ended"}]


def test_a_recorder_that_cannot_write_denies_everyone_and_ends_the_agent(path: Path) -> None:
    rig = Rig()
    rig.append_error = OSError("disk full")
    with LiveRecorder(rig, path) as live:
        code, out, err = live.hook("PreToolUse")
        assert (code, out) == (2, b"")
        assert b"the recorder failed" in err
        live.agent.terminated.wait()
    assert live.recorder.state == "failed"
    assert rig.drafts == []


def test_an_event_that_cannot_be_read_is_denied_and_harms_nobody_else(path: Path) -> None:
    rig = Rig()
    with LiveRecorder(rig, path) as live:
        assert receive(live.send("PreToolUse", b"[" * 99_999))[0] == 2
        assert receive(live.send("PreToolUse", b"{}", agent="codex"))[0] == 2
        assert live.hook("PreToolUse")[0] == 0
    assert rig.kinds() == ["call.request"]
    assert live.recorder.failure is None


@pytest.mark.parametrize(
    "raw", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 500, b"AG1 hook claude Pre 999999999\n"]
)
def test_a_stranger_to_the_protocol_is_hung_up_on(path: Path, raw: bytes) -> None:
    with LiveRecorder(Rig(), path) as live:
        connection = live.connect()
        connection.sendall(raw)
        assert connection.recv(1) == b""
        connection.close()
        assert live.hook("PreToolUse")[0] == 0


def test_silent_and_half_said_clients_do_not_hold_others_up(path: Path) -> None:
    with LiveRecorder(Rig(), path) as live:
        silent = [live.connect() for _ in range(50)]
        for connection in silent[:25]:
            connection.sendall(b"AG1 hook claude PreToolUse 100\n{")
        assert live.hook("PreToolUse")[0] == 0
        for connection in silent:
            connection.close()


def test_silent_clients_are_dropped_in_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "REQUEST_SECONDS", 0.05)
    with LiveRecorder(Rig(), path) as live:
        connection = live.connect()
        assert connection.recv(1) == b""
        connection.close()


def test_more_clients_than_allowed_wait_and_are_served(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "MAX_CLIENTS", 3)
    rig = Rig({"curl": "ask"})
    with LiveRecorder(rig, path) as live:
        held = [live.send("PreToolUse", hook_input("PreToolUse", f"t{n}", "curl")) for n in range(3)]
        late = live.send("PreToolUse", hook_input("PreToolUse", "late"))
        held[0].close()
        assert receive(late)[0] == 0
        for connection in held[1:]:
            connection.close()


def test_hooks_from_outside_the_run_are_refused(path: Path) -> None:
    # The test itself is not below a process that it started.
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    rig = Rig()
    try:
        with LiveRecorder(rig, path, supervisor_pid=child.pid, check_peers=True) as live:
            code, _, err = live.hook("PreToolUse")
            assert (code, b"does not come from the agent" in err) == (2, True)
            assert live.ask("pending")[0] == 0
    finally:
        child.communicate(b"\n")
    assert rig.drafts == []


def test_hooks_from_inside_count_and_answers_from_inside_do_not(path: Path) -> None:
    rig = Rig({"curl": "ask"})
    with LiveRecorder(rig, path, supervisor_pid=os.getpid(), check_peers=True) as live:
        words = [str(HOOK_CLIENT), str(path), str(os.getpid()), "claude", "PreToolUse"]
        command = [sys.executable, "-I", "-S", *words]
        held = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert held.stdin is not None
        held.stdin.write(hook_input("PreToolUse", "t1", "curl"))
        held.stdin.close()
        live.told.heard.wait()
        code, _, err = live.ask("answer", b'{"n": 1, "answer": "allow"}')
        assert (code, err) == (10, b"an answer must come from outside the run")
    assert held.stdout is not None
    assert b"deny" in held.stdout.read()
    held.wait()
    assert rig.bodies("call.answer") == [{"n": 1, "answer": "deny", "by": "run-ended"}]


def test_a_turns_end_closes_what_the_agent_never_ran(path: Path) -> None:
    rig = Rig()
    with LiveRecorder(rig, path) as live:
        live.hook("PreToolUse", "t1")
        live.hook("PreToolUse", "t2", agent_id="sub")
        live.hook("Stop")
        assert [(b["n"], b["status"]) for b in rig.bodies("call.result")] == [(1, "interrupted")]
        live.hook("SubagentStop", agent_id="sub")
    assert [b["n"] for b in rig.bodies("call.result")] == [1, 2]


def test_a_refused_call_is_closed_by_the_session_log(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("")
    rig = Rig()
    with LiveRecorder(rig, path) as live:
        live.hook("PreToolUse", "t1", transcript_path=str(log))
        live.hook("PreToolUse", "t2", transcript_path=str(log))
        assert rig.bodies("call.result") == []
        log.write_text('{"message":{"content":[{"type":"tool_result","tool_use_id":"t1"}]}}\n')
        live.hook("PreToolUse", "t3", transcript_path=str(log))
        assert [(b["n"], b["status"]) for b in rig.bodies("call.result")] == [(1, "interrupted")]


def test_a_change_while_nothing_runs_is_entered_as_nobodys(path: Path) -> None:
    ours, theirs = socket.socketpair()
    rig = Rig()
    entered = threading.Event()
    keep = rig.snapshots.take

    def take(full: bool = False):  # type: ignore[no-untyped-def]
        if rig.snapshots.now != tree(1):
            ours.recv(16)
            entered.set()
        return keep(full)

    rig.snapshots.take = take  # type: ignore[method-assign]
    with LiveRecorder(rig, path, watch_fd=ours.fileno()) as live:
        rig.snapshots.now = tree(2)
        theirs.send(b"changed")
        entered.wait()
        assert json.loads(live.ask("status")[1])["calls"] == 0
    assert rig.kinds() == ["change.unattributed"]
    ours.close()
    theirs.close()


def test_the_record_is_saved_after_so_many_entries(path: Path) -> None:
    rig = Rig()
    with LiveRecorder(rig, path) as live:
        for number in range(128):
            live.hook("PreToolUse", f"t{number}")
            live.hook("PostToolUse", f"t{number}")
    assert live.seals == 1


def test_the_socket_is_for_this_user_only(path: Path) -> None:
    with LiveRecorder(Rig(), path):
        assert path.stat().st_mode & 0o777 == 0o600
