"""New person keys, made by `ssh-keygen` on the terminal.

Rules kept here:

- Nothing is ever overwritten: the key is made in a folder of its own beside its place, and linked there.
- The private key is not read; `ssh-keygen` asks for its passphrase, and for the touch of a hardware key.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from agentgov.errors import AgentgovError, ConflictError
from agentgov.git import clean_environment
from agentgov.ledger.sshkey import SshPublicKey, parse_public_key

TIMEOUT_SECONDS: Final = 600.0


def make_key(path: Path, *, hardware: bool, comment: str, passphrase: bool) -> SshPublicKey:
    """Make an Ed25519 key and return its public part.

    Args:
        path: Where the private key goes; the public one beside it, with `.pub`.
        hardware: Keep the private part in a hardware key (FIDO2).
        comment: What stands behind the public key.
        passphrase: Let ssh-keygen ask for a passphrase on the terminal.

    Raises:
        ConflictError: AG0428, when a key is there already.
        AgentgovError: AG0429, when ssh-keygen is missing, fails, or the key cannot be put there.
    """
    public = path.with_name(f"{path.name}.pub")
    for place in (path, public):
        if os.path.lexists(place):
            raise _taken(place)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".agentgov-", dir=path.parent) as folder:
        made = Path(folder) / "key"
        kind = "ed25519-sk" if hardware else "ed25519"
        command = ["ssh-keygen", "-q", "-t", kind, "-C", comment, "-f", str(made)]
        try:
            done = subprocess.run(
                command if passphrase else [*command, "-N", ""],
                env=clean_environment(),
                stdin=None if passphrase or hardware else subprocess.DEVNULL,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise _failed("ssh-keygen was not found", "install OpenSSH 8.2 or later") from error
        except subprocess.TimeoutExpired as error:
            raise _failed(f"ssh-keygen did not end within {TIMEOUT_SECONDS:g} s") from error
        made_public = made.with_name("key.pub")
        if done.returncode != 0 or not made.is_file() or not made_public.is_file():
            raise _failed("ssh-keygen made no key", *(["plug the hardware key in"] if hardware else []))
        key = parse_public_key(made_public.read_text("utf-8", "replace"))
        _link(made, path)
        try:
            _link(made_public, public)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
    return key


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError as error:
        raise _taken(target) from error
    except OSError as error:
        raise _failed(f"the key cannot be put at {target}: {error.strerror}") from error


def _taken(place: Path) -> ConflictError:
    return ConflictError(
        "there is a key already, and it is not overwritten",
        id="AG0428",
        where=str(place),
        hint=("agentgov keys trust        the one that is there", "agentgov keys new --file PATH"),
    )


def _failed(what: str, *hint: str) -> AgentgovError:
    return AgentgovError(what, id="AG0429", hint=hint)
