"""What a tool call would do: its effects, whatever tool and whatever way of writing it.

Rules kept here:
- A shell command is read word by word; other tools say what they touch. What cannot be read is an opaque
  exec.
- No exception leaves here as "no effect": a reader that fails makes the call opaque.
"""

from __future__ import annotations

from agentgov.calls import ToolCall
from agentgov.gates.effect import Effect
from agentgov.gates.places import Places
from agentgov.gates.scope import Scope
from agentgov.gates.toolargs import read_arguments

__all__ = ["Effect", "effects_of"]


def effects_of(call: ToolCall, places: Places) -> list[Effect]:
    """The distinct effects of a call, in the order in which they were found."""
    scope = Scope.start(places, str(call.cwd))
    if call.command is not None:
        from agentgov.gates.shell import read_shell

        try:
            read_shell(call.command, scope)
        except (RecursionError, ValueError, OSError, LookupError, TypeError):
            # A reader that stumbles has understood nothing: the text as a whole is judged instead.
            scope.opaque(call.command)
        scope.effects = [_with_whole_text(effect, call.command) for effect in scope.effects]
    elif call.kind == "shell":
        scope.opaque(str(dict(call.input)))
    read_arguments(call, scope)
    return list(dict.fromkeys(scope.effects))


def _with_whole_text(effect: Effect, command: str) -> Effect:
    if not effect.opaque:
        return effect
    text = command if effect.text in command else f"{effect.text}\n{command}"
    return Effect("exec", argv=effect.argv, opaque=True, text=text, exact=effect.exact)
