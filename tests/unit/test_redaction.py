"""What the redaction funnel takes out, and what it leaves alone."""

from __future__ import annotations

import base64
import json

import pytest

from agentgov.ledger.redaction import Redactor
from agentgov.ledger.redaction_literals import parse_dotenv, secret_values

_B64 = "q7Rk2LmX9vTz4WcNbY8sHd3JfPgA6uEe"
_KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join([_B64 * 2] * 3) + "\n-----END RSA PRIVATE KEY-----"

# (kind, the text, the part that must be gone)
TRUE_POSITIVES = [
    ("aws-key-id", "export AWS_ACCESS_KEY_ID={}", "AKIA" + "Z7QJ4TLM2XWN5RPB"),
    ("secret", "aws_secret_access_key = {}", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzzzKE"),
    ("github", "git clone with {} now", "ghp_" + "a1B2" * 9),
    ("github", "token: '{}'", "github_pat_" + "11ABCDEFG0" * 8),
    ("gitlab", "PRIVATE-TOKEN: {}", "glpat-" + "x7Yz" * 5),
    ("slack", "slack {}", "xoxb-" + "123456789012-abcdEFGHijkl"),
    ("slack-webhook", "https://hooks.slack.com/services/{}", "T00000000/B00000000/XXXXyyyyZZZZ0000"),
    ("stripe", "stripe.api_key = '{}'", "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc"),
    ("stripe-webhook", "{}", "whsec_" + "4eC39HqLyjWDarjtT1zdp7dc"),
    ("google", "maps?key={}&x=1", "AIza" + "SyD4x7Yz0123456789abcdefghijklmnopq"),
    ("google-oauth", "oauth {}", "GOCSPX-" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4"),
    ("anthropic", "ANTHROPIC_API_KEY={}", "sk-ant-" + "api03-" + "Ab9_" * 20),
    ("openai", "OPENAI_API_KEY={}", "sk-" + "proj-" + "Ab9_" * 20),
    ("openai", "key {}", "sk-" + "Ab9x" * 12),
    ("npm", "//registry/:_authToken={}", "npm_" + "a1B2" * 9),
    ("pypi", "password = {}", "pypi-AgE" + "IcHlwaS5vcmcC" * 6),
    ("jwt", "cookie={};", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N"),
    ("sendgrid", "{}", "SG." + "a1B2c3D4e5F6g7H8i9J0k1" + "." + "a1B2c3D4e5" * 4 + "abc"),
    ("huggingface", "{}", "hf_" + "aB" * 17),
    ("vault", "VAULT={}", "hvs." + "CAESIJ" * 5),
    ("databricks", "{}", "dapi" + "0a1b2c3d" * 4),
    ("azure", "DefaultEndpointsProtocol=https;AccountKey={};X", "a1B2" * 21 + "ab=="),
    ("url-password", "postgres://app:{}@db.internal:5432/x", "s3cr3t-Pa55"),
    ("url-password", "redis://:{}@cache:6379", "s3cr3tPa55"),
    ("authorization", "Authorization: Basic {}", "dXNlcjpwYXNzd29yZA=="),
    ("authorization", '{{"Authorization": "Bearer {}"}}', "opaque-token-value-1"),
    ("authorization", "curl -H 'authorization: token {}'", "abcdef0123456789abcd"),
    ("bearer", "sent Bearer {} to it", "q7Rk2LmX9vTz4WcNbY8s"),
    ("curl-user", "curl -s -u admin:{} https://x", "hunter22"),
    ("netrc", "machine x login bob password {}", "hunter22"),
    ("password", 'password = "{}"', "hunter2-Really"),
    ("password", "DB_PASSWORD={}", "correcthorsebattery"),
    ("password", "mysql --password={} -h x", "hunter2x9"),
    ("password", "login --password {}", "hunter2x9"),
    ("token", '["tool", "--token", "{}"]', "hunter2x9"),
    ("password", '{{\\"password\\": \\"{}\\"}}', "hunter2x9"),
    ("secret", "client_secret: {}", "8Q~hunter2x9abc"),
    ("api-key", 'const apiKey = "{}";', "9f8e7d6c5b4a39281706"),
    ("token", "https://x/?access_token={}&a=b", "9f8e7d6c5b4a3928"),
    ("private-key", "x = {}", _KEY),
    ("private-key", "cut {}", _KEY[:150]),
    ("private-key", "{}", _KEY.replace("RSA PRIVATE", "OPENSSH PRIVATE")),
]

FALSE_POSITIVES = [
    "commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "token=3f786850e387550fdab836ed7e6dc881de23001b",
    'secret: "' + "0a" * 32 + '"',
    "sha256:" + "9f" * 32,
    "password = get_password(user)",
    "password = getpass.getpass()",
    "def login(user: str, password: str) -> Token:",
    "token = self.token",
    "token = request.headers.token1",
    "client(api_key=api_key, token=access_token1)",
    "token = next_token_2",
    'api_key = os.environ["API_KEY"]',
    "API_KEY=$API_KEY",
    "API_KEY=${SECRETS_API_KEY}",
    "password: ${{ secrets.DB_PASSWORD }}",
    'password = "<your password here>"',
    'label = "password"; text = "Enter your password, please"',
    '{"max_tokens": 4096, "token_count": 123456789, "tokenizer": "cl100k_base"}',
    "secretary=Miss1Moneypenny",
    "token_file = /run/secrets/token1",
    "SECRET_KEY=/run/secrets/key1",
    'secret: "kubernetes-service-account"',
    "if password == 'x' or secret != other1234:",
    "https://example.org:8080/@scope/pkg",
    "http://user@example.org/path",
    "the bearer of this letter",
    "Authorization: Bearer $TOKEN",
    "Authorization: Bearer <token>",
    'PEM_HEADER = "-----BEGIN PRIVATE KEY-----"\nPEM_FOOTER = "-----END PRIVATE KEY-----"',
    "-----BEGIN PUBLIC KEY-----\n" + _B64 + "\n-----END PUBLIC KEY-----",
    "ask-for-it risk-assessment-of-everything-here",
    "xoxo-love-letters",
    "eyJ",
    "def test_npm_install(): ...",
    "tree 9f8e7d6c5b4a39281706f5e4d3c2b1a098765432\nparent 3f786850e387550fdab836ed7e6dc881de23001b",
    "password: Optional[str] = None",
    "this.tokenService.getToken1()",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJx7 me@host",
    "uuid 123e4567-e89b-12d3-a456-426614174000",
    "integrity sha512-" + "aB3" * 28 + "==",
]


@pytest.mark.parametrize(("kind", "template", "secret"), TRUE_POSITIVES)
def test_secrets_are_replaced_by_their_kind(kind: str, template: str, secret: str) -> None:
    text = template.format(secret)
    redacted = Redactor().redact(text.encode()).decode()
    assert secret not in redacted
    assert redacted.count("[REDACTED:") == 1
    if not template.startswith(("token:", "password = {", "stripe.api_key")):
        assert f"[REDACTED:{kind}:#1]" in redacted
    before, after = text.split(secret)
    assert redacted.startswith(before[:3])
    assert redacted.endswith(after[-1:])


@pytest.mark.parametrize(("kind", "template", "secret"), TRUE_POSITIVES)
def test_secrets_inside_json_strings_are_replaced_and_the_json_stays_valid(
    kind: str, template: str, secret: str
) -> None:
    for depth in (1, 2):
        text = "a line\n" + template.format(secret) + "\n"
        for _ in range(depth):
            text = json.dumps({"output": text})
        redacted = Redactor().redact(text.encode()).decode()
        assert "[REDACTED:" in redacted, kind
        assert secret.splitlines()[-1] not in redacted
        value = redacted
        for _ in range(depth):
            value = json.loads(value)["output"]
        assert value.startswith("a line\n")
        assert value.endswith("\n") or template.startswith("cut")


@pytest.mark.parametrize("text", FALSE_POSITIVES)
def test_code_ids_and_prose_are_left_alone(text: str) -> None:
    assert Redactor().redact(text.encode()) == text.encode()
    escaped = json.dumps({"text": text}).encode()
    assert Redactor().redact(escaped) == escaped


def test_equal_secrets_of_one_value_share_a_number() -> None:
    one, two = "ghp_" + "a1B2" * 9, "ghp_" + "c3D4" * 9
    redacted = Redactor().redact(f"{one} {two} {one}".encode())
    assert redacted == b"[REDACTED:github:#1] [REDACTED:github:#2] [REDACTED:github:#1]"


def test_values_of_secret_looking_variables_are_redacted_wherever_they_stand() -> None:
    redactor = Redactor({"STAGING_PASSWORD": "tr0ub4dor&3 x", "EDITOR": "vim-improved"}, ["from-dotenv-1"])
    redacted = redactor.redact(b"echo tr0ub4dor&3 x; vim-improved; from-dotenv-1")
    assert redacted == b"echo [REDACTED:env:#1]; vim-improved; [REDACTED:env:#2]"


def test_values_are_found_in_their_json_and_percent_encoded_spellings() -> None:
    secret = 'pa"ss\\w\nord\u00e9'
    redactor = Redactor({"DB_PASSWORD": secret})
    once = json.dumps({"a": secret})
    for text in (
        once,
        json.dumps({"b": once}),
        json.dumps({"a": secret}, ensure_ascii=False),
        "x=pa%22ss%5Cw%0Aord%C3%A9",
    ):
        assert b"[REDACTED:env:#1]" in redactor.redact(text.encode()), text
    assert json.loads(redactor.redact(once.encode())) == {"a": "[REDACTED:env:#1]"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGPASSWORD", "postgres"),
        ("API_TOKEN", "short"),
        ("SSH_AUTH_SOCK", "/tmp/ssh-XXXX/agent.1"),
        ("SECRET_FILE", "/run/secrets/one"),
        ("CACHE_TOKEN", "3f786850e387550fdab836ed7e6dc881de23001b"),
        ("MAX_TOKENS", "1000000000"),
        ("TOKEN_LIMIT", "1000000000"),
        ("PWD", "/home/someone/project"),
        ("AUTH_TOKEN_URL", "https://auth.example.org/token"),
        ("CREDENTIAL_HELPER", "osxkeychain"),
    ],
)
def test_common_words_paths_numbers_and_ids_of_variables_are_no_secrets(name: str, value: str) -> None:
    text = f"before {value} after".encode()
    assert Redactor({name: value}).redact(text) == text


def test_the_password_of_an_address_in_a_variable_is_redacted_alone() -> None:
    redactor = Redactor({"DATABASE_URL": "postgres://app:tr0ub4dor3@db/x"})
    assert redactor.redact(b"db says tr0ub4dor3") == b"db says [REDACTED:env:#1]"
    assert redactor.redact(b"connect to db") == b"connect to db"


def test_a_literal_inside_an_object_id_leaves_the_id_whole() -> None:
    oid = b"3f786850e387550fdab836ed7e6dc881de23001b"
    assert Redactor({"X_TOKEN": "e387550fdab8"}).redact(b"commit " + oid) == b"commit " + oid
    assert Redactor({"X_TOKEN": "e387550fdab8"}).redact(b"is e387550fdab8") == b"is [REDACTED:env:#1]"


@pytest.mark.parametrize("digits", [40, 64])
def test_hexadecimal_keys_of_the_environment_are_secrets_and_other_ids_are_not(digits: int) -> None:
    key = ("0123456789abcdef" * 4)[:digits]
    redactor = Redactor({"SESSION_SECRET": key})
    other = ("fedcba9876543210" * 4)[:digits]
    assert redactor.redact(f"{key} {other}".encode()) == f"[REDACTED:env:#1] {other}".encode()
    assert redactor.redact(f"{key}0".encode()) == b"[REDACTED:env:#1]0"
    assert Redactor({"COMMIT_TOKEN_SHA": key}).redact(key.encode()) == key.encode()


def test_values_are_found_in_base64_alone_and_among_other_bytes() -> None:
    secret = b"tr0ub4dor-and-3?>"
    redactor = Redactor({"DB_PASSWORD": secret.decode()})
    for text in (secret, b"user:" + secret, b"a" + secret + b"bc", b"ab" + secret + b"\n"):
        for encoded in (base64.b64encode(text), base64.urlsafe_b64encode(text)):
            redacted = redactor.redact(b"x: " + encoded)
            assert b"[REDACTED:env:#1]" in redacted
            # What stays is what stood beside it, and at most one character of either end.
            assert len(redacted) <= len(b"x: [REDACTED:env:#1]") + 4 * (len(text) - len(secret)) // 3 + 6


def test_values_are_found_in_other_percent_encodings() -> None:
    redactor = Redactor({"DB_PASSWORD": "tr0 ub/4dor&3"})
    for text in (b"tr0%20ub%2F4dor%263", b"tr0+ub%2f4dor%263", b"tr0%20ub/4dor%263", b"tr0%20ub%2f4dor%263"):
        assert redactor.redact(b"p=" + text) == b"p=[REDACTED:env:#1]", text


def test_a_password_in_an_address_counts_whatever_the_variable_is_called() -> None:
    assert secret_values_of({"MIRROR": "https://bob:tr0ub4dor3@host/x"}) == ["tr0ub4dor3"]
    assert secret_values_of({"MIRROR": "https://host/x", "PORT": "3000"}) == []


def secret_values_of(env: dict[str, str]) -> list[str]:
    return sorted(set(secret_values(env.items())))


def test_redact_text_keeps_undecodable_bytes() -> None:
    text = b"caf\xe9 ghp_".decode("utf-8", "surrogateescape") + "a1B2" * 9
    assert Redactor().redact_text(text) == "caf\udce9 [REDACTED:github:#1]"


def test_a_value_without_a_secret_is_returned_as_it_is() -> None:
    value = b"nothing to see"
    assert Redactor().redact(value) is value


def test_the_values_of_a_dotenv_file_are_found() -> None:
    raw = b"# a comment\nexport API_TOKEN='quoted value 1'\nDB_PASSWORD=plain-Value2 # why\nPORT=3000\nX\n"
    env = parse_dotenv(raw)
    assert env == {"API_TOKEN": "quoted value 1", "DB_PASSWORD": "plain-Value2", "PORT": "3000"}
    redacted = Redactor(env).redact(b"plain-Value2, quoted value 1, 3000")
    assert redacted == b"[REDACTED:env:#1], [REDACTED:env:#2], 3000"
