"""Which values of an environment are secrets, and in which spellings they are found."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import subprocess
import textwrap

import pytest

from agentgov.ledger.redaction import Redactor
from agentgov.ledger.redaction_literals import parse_dotenv


@pytest.mark.parametrize(
    "name",
    [
        "SSHPASS",
        "DBPASS",
        "DB_PASS_PROD",
        "ROOT_PW",
        "MYSQLPWD",
        "AWS_CREDS",
        "SIGNING_KEY_1",
        "API_KEYS",
        "API-KEY",
        "encryptionKey",
        "TOKENS",
        "GITHUB_PAT_2",
        "SERVICE_JWT",
        "SESSION_COOKIE",
        "AZURE_SAS",
        "ENCRYPTION_KEY_BASE64",
        "AUTHORIZATION",
        "PASSCODE",
    ],
)
def test_variables_of_many_names_hold_secrets(name: str) -> None:
    assert b"Xk9-vQ2m7LpZ" not in Redactor({name: "Xk9-vQ2m7LpZ"}).redact(b"it is Xk9-vQ2m7LpZ")


@pytest.mark.parametrize(
    "name",
    ["SSH_ASKPASS_NAME", "COMPASS", "BYPASS", "COOKIE_DOMAIN", "MAX_TOKENS", "KEY_NAME"],
)
def test_variables_whose_names_only_sound_alike_hold_none(name: str) -> None:
    assert Redactor({name: "some-value-1"}).redact(b"some-value-1") == b"some-value-1"


@pytest.mark.parametrize(
    "secret", ["a\"b'c\\d`e$f!", "x&y<z>=1/2?", "\u00fcn\u00efc\u00f6d\u00e9-9", "p.*+?[x](y)^$|"]
)
def test_a_value_is_found_as_programs_quote_it(secret: str) -> None:
    redactor = Redactor({"DB_PASSWORD": secret})
    shell = subprocess.run(
        ["bash", "-c", 'printf %q "$1"', "-", secret], capture_output=True, check=True, text=True
    )
    quoted = [shlex.quote(secret)[1:-1], html.escape(secret), ascii(secret)[1:-1], repr(secret)[1:-1]]
    quoted += [repr(secret.encode())[2:-1], re.sub(r'([\\"$`])', r"\\\1", secret)]
    if secret.isascii():
        quoted.append(shell.stdout)
    for text in (secret, *quoted):
        once = json.dumps(text)
        go = once.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        for spelled in (text, once, once.replace("/", "\\/"), go, json.dumps(once)):
            assert b"[REDACTED:env:#1]" in redactor.redact(f"x={spelled};".encode()), spelled


def test_each_secret_of_a_value_that_holds_several_is_found_alone() -> None:
    parts = {
        "API_KEYS": ("key1-abcdefgh,key2-ijklmnop", ["key1-abcdefgh", "key2-ijklmnop"]),
        "HTTP_AUTH": ("someone:tr0ub4dor3", ["tr0ub4dor3"]),
        "AUTH_HEADER": ("Bearer q7Rk2LmX9v", ["q7Rk2LmX9v"]),
        "DOCKER_CONFIG_JSON": (
            '{"auths":{"x.example":{"auth":"dXNlcjpwYXNzd29yZDE="}}}',
            ["dXNlcjpwYXNzd29yZDE="],
        ),
    }
    for name, (value, secrets) in parts.items():
        for secret in secrets:
            assert b"REDACTED" in Redactor({name: value}).redact(secret.encode()), name
    assert Redactor({"PASSPHRASE": "correct horse battery"}).redact(b"a battery") == b"a battery"


@pytest.mark.parametrize("width", [60, 64, 76])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_values_are_found_in_base64_that_is_broken_into_lines(width: int, line_end: str) -> None:
    secret = "Xk9-vQ2m7LpZ-ab"
    redactor = Redactor({"A_TOKEN": secret})
    for place in range(0, 90, 3):
        encoded = base64.b64encode(b"x" * place + secret.encode() + b"y" * 100).decode()
        text = "out:\n" + line_end.join(textwrap.wrap(encoded, width)) + "\ndone\n"
        for spelled in (text, json.dumps({"out": text}), json.dumps([json.dumps({"out": text})])):
            redacted = redactor.redact(spelled.encode())
            assert redacted.count(b"[REDACTED:env:#1]") == 1, spelled
            if spelled is not text:
                json.loads(redacted)
    untouched = base64.encodebytes(bytes(range(256)) * 40)
    assert redactor.redact(untouched) is untouched


@pytest.mark.parametrize(
    "line",
    [
        'A_TOKEN="Xk9-vQ2m7LpZ" # why',
        "export A_TOKEN='Xk9-vQ2m7LpZ';",
        "A_TOKEN=Xk9-vQ2m7LpZ; export A_TOKEN",
        "\ufeffA_TOKEN=Xk9-vQ2m7LpZ",
        "export A=1 A_TOKEN=Xk9-vQ2m7LpZ B=2",
        "A_TOKEN=Xk9-vQ2m7LpZ\t# why",
        "A_TOKEN: Xk9-vQ2m7LpZ",
    ],
)
def test_a_dotenv_value_ends_where_a_shell_ends_it(line: str) -> None:
    assert parse_dotenv(f"{line}\n".encode())["A_TOKEN"] == "Xk9-vQ2m7LpZ"
