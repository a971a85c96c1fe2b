"""The bundled demonstration agent: a script instead of a model, real tools, and the real hook path.

It speaks Claude's hook dialect: before each tool call it runs the ``PreToolUse`` hooks named in its
settings file with the call as JSON on their standard input, does not run a call that a hook denied, and
afterwards runs ``PostToolUse`` or ``PostToolUseFailure``. Run as
``python -I demo_agent.py SCRIPT --settings FILE``, where SCRIPT is a JSON list of ``{"say": TEXT}`` and
``{"tool": NAME, "input": {...}, "agent": ID}``.

Rules kept here: the standard library only, nothing of agentgov is imported: it stands where a stranger's
agent stands. A hook that fails in any way denies.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SESSION = str(uuid.UUID(bytes=os.urandom(16), version=4))
MODEL = "scripted"


def run_hooks(settings: Mapping[str, Any], event: str, fields: Mapping[str, Any]) -> str | None:
    """Run an event's hooks.

    Returns:
        Why the call is denied, or None.
    """
    raw = json.dumps(
        {
            "hook_event_name": event,
            "session_id": SESSION,
            "cwd": str(Path.cwd()),
            "transcript_path": "",
            **fields,
        }
    ).encode()
    for group in settings["hooks"].get(event, []):
        for hook in group["hooks"]:
            done = subprocess.run(
                ["/bin/sh", "-c", hook["command"]], input=raw, capture_output=True, check=False
            )
            if done.returncode != 0:
                return done.stderr.decode(errors="replace").strip() or f"a hook failed with {done.returncode}"
            if done.stdout.strip():
                said = json.loads(done.stdout)["hookSpecificOutput"]
                if said.get("permissionDecision") == "deny":
                    return str(said.get("permissionDecisionReason", "denied"))
    return None


def run_tool(tool: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Do what a call asks for.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: an edit does not fit, or there is no such tool.
    """
    if tool == "Bash":
        done = subprocess.run(["/bin/sh", "-c", given["command"]], capture_output=True, check=False)
        return {
            "stdout": done.stdout.decode(errors="replace"),
            "stderr": done.stderr.decode(errors="replace"),
            "exit_code": done.returncode,
        }
    if not isinstance(given.get("file_path"), str):
        raise ValueError(f"there is no tool {tool} without a file")
    path = Path(given["file_path"])
    if tool == "Read":
        return {"content": path.read_text()}
    if tool == "Write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(given["content"])
        return {"written": len(given["content"])}
    if tool == "Edit":
        text = path.read_text()
        if text.count(given["old_string"]) != 1:
            raise ValueError("the text to replace does not stand there exactly once")
        path.write_text(text.replace(given["old_string"], given["new_string"]))
        return {"replaced": 1}
    raise ValueError(f"there is no tool {tool}")


def call(settings: Mapping[str, Any], step: Mapping[str, Any]) -> None:
    """Make one call, if no hook denies it, and print what came of it."""
    fields: dict[str, Any] = {
        "tool_name": step["tool"],
        "tool_input": step["input"],
        "tool_use_id": "toolu_" + os.urandom(12).hex(),
    }
    if "agent" in step:
        fields |= {"agent_id": step["agent"], "agent_type": step.get("agent_type", step["agent"])}
    shown = step["input"].get("command") or step["input"].get("file_path") or ""
    print(f"  * {step['tool']} {shown}", flush=True)
    denied = run_hooks(settings, "PreToolUse", fields)
    if denied is not None:
        print("    " + denied.replace("\n", "\n    "), flush=True)
        return
    try:
        response = run_tool(step["tool"], step["input"])
    except (OSError, ValueError) as error:
        run_hooks(settings, "PostToolUseFailure", {**fields, "error": str(error)})
        print(f"    failed: {error}", flush=True)
        return
    run_hooks(settings, "PostToolUse", {**fields, "tool_response": response})
    text = str(response.get("stdout", "")).strip()
    if text:
        print("    " + text.replace("\n", "\n    "), flush=True)


def main(argv: Sequence[str]) -> int:
    """Play a script."""
    parser = argparse.ArgumentParser(description="agentgov's demonstration agent")
    parser.add_argument("script", type=Path)
    parser.add_argument("--settings", type=Path, required=True)
    options = parser.parse_args(argv)
    settings = json.loads(options.settings.read_text())
    run_hooks(settings, "SessionStart", {"model": MODEL, "source": "startup"})
    for step in json.loads(options.script.read_text()):
        if "say" in step:
            print(step["say"], flush=True)
        else:
            call(settings, step)
    run_hooks(settings, "Stop", {})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
