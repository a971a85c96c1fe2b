"""Which values of an environment are secrets, and how they may be spelled in what is stored.

Rules this module keeps:
    * Only variables whose names speak of secrets give values; a value shorter than eight characters, a common
      word, a number, a path or an address without a password would blacken ordinary text and is left out.
    * Forty or 64 hexadecimal digits are a secret when a variable with such a name holds them, because many
      keys look so; a name that speaks of commits, caches or hashes holds an id.
    * A value is looked for as it is, as JSON spells it (once and twice escaped), percent-encoded, and in
      base64, alone or in the middle of what was encoded.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, unquote, urlsplit

MINIMUM_LENGTH = 8

_NAME = re.compile(
    r"passw|passphrase|passwd|(?:^|_)pass$|(?:^|_)pwd$(?<!^pwd)|secret|token(?!s|iz)|api_?key|access_?key|private_?key"
    r"|credential|(?:^|_)auth(?:$|_(?!sock))|_key$|(?:^|_)pat$|_dsn$|database_url|redis_url|connection_string|webhook",
    re.IGNORECASE,
)
_PATH = re.compile(r"^(?:~|\.{1,2}|[A-Za-z]:)?[/\\][^\s+=]*$")
_ID = re.compile(r"^(?:[0-9a-fA-F]{40}|[0-9a-fA-F]{64})$")
_ID_NAME = re.compile(r"cache|commit|revision|checksum|digest|fingerprint|sha(?:1|256)?(?:_|$)|hash", re.I)
_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DOTENV = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*[=:](?P<value>.*)$")
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
# fmt: off
_COMMON = frozenset(
    {
        "administrator", "anonymous", "anthropic", "authenticated", "authorization", "automatic",
        "basicauth", "changeit", "changeme", "database", "default-token", "development", "disabled",
        "elasticsearch", "enabled", "environment", "external", "foobarbaz", "github-actions",
        "gnome-keyring", "guest1234", "interactive", "keychain", "keycloak", "libsecret", "localhost",
        "manager", "manager-core", "mariadb", "minioadmin", "mongodb", "mypassword", "mysecret",
        "mysecretkey", "none-none", "notasecret", "optional", "osxkeychain", "password", "passwords",
        "placeholder", "postgres", "postgresql", "production", "rabbitmq", "required", "secretservice",
        "sensitive", "supersecret", "superuser", "test-token", "test1234", "testing1", "testpass",
        "testpassword", "undefined", "unlimited", "username", "wincred", "workspace",
    }
)
# fmt: on


def literals_of(env: Mapping[str, str], extra_values: Iterable[str] = ()) -> tuple[bytes, ...]:
    """Return the spellings to look for, the longest first, each once.

    Args:
        env: Variables; those whose names speak of secrets count.
        extra_values: Further secrets, whatever their name.
    """
    spellings: set[bytes] = set()
    for secret in {
        *secret_values(env.items()),
        *(part for value in extra_values for part in _secrets_in(value)),
    }:
        spellings.update(_spellings(secret))
    return tuple(sorted(spellings, key=lambda spelling: (-len(spelling), spelling)))


def secret_values(assignments: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Return the secrets in assignments of variables, by their names and forms."""
    for name, value in assignments:
        if not _NAME.search(name):
            # Whatever it is called: an address with a password in it is a secret in that place.
            if _ADDRESS.match(value.strip()):
                yield from _passwords_of(value.strip())
        elif not (_ID.match(value.strip()) and _ID_NAME.search(name)):
            yield from _secrets_in(value)


def _secrets_in(value: str) -> Iterator[str]:
    value = value.strip()
    if _ADDRESS.match(value):
        yield from _passwords_of(value)
    elif is_worth_hiding(value):
        yield value
        # A private key handed in as a variable is printed line by line as often as whole.
        yield from (line for line in value.splitlines() if line != value and _is_key_line(line))


def _passwords_of(address: str) -> Iterator[str]:
    try:
        password = urlsplit(address).password
    except ValueError:
        return
    for spelling in {password or "", unquote(password or "")}:
        if is_worth_hiding(spelling):
            yield spelling


def parse_dotenv(raw_file: bytes) -> dict[str, str]:
    """Return the assignments of a ``.env`` file, to be given to the redactor beside the environment.

    Lines that are no assignment are passed over: this finds secrets and does not run anything.
    """
    found: dict[str, str] = {}
    for line in raw_file.decode("utf-8", "surrogateescape").splitlines():
        match = _DOTENV.match(line)
        if match is not None:
            value = match["value"].strip()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\"`"
            found[match["name"]] = value[1:-1] if quoted else value.split(" #", 1)[0].rstrip()
    return found


def is_worth_hiding(value: str) -> bool:
    """Whether replacing `value` everywhere hides a secret rather than ordinary text."""
    return (
        len(value) >= MINIMUM_LENGTH
        and value.lower() not in _COMMON
        and not value.replace(".", "").replace("-", "").isdecimal()
        and len(set(value)) > 2
        and not _PATH.match(value)
    )


def _is_key_line(line: str) -> bool:
    return len(line) >= 32 and " " not in line


def _spellings(secret: str) -> Iterator[bytes]:
    raw = secret.encode("utf-8", "surrogateescape")
    yield raw
    once = json.dumps(secret)[1:-1]
    yield once.encode()
    yield json.dumps(secret, ensure_ascii=False)[1:-1].encode("utf-8", "surrogateescape")
    yield json.dumps(once)[1:-1].encode()
    for safe in ("", "/"):
        quoted = quote(secret, safe=safe, errors="surrogateescape")
        for form in (quoted, quoted.replace("%20", "+")):
            yield form.encode()
            yield _ESCAPE.sub(lambda match: match[0].lower(), form).encode()
    yield from _base64_spellings(raw)


def _base64_spellings(raw: bytes) -> Iterator[bytes]:
    """The characters that depend on the secret alone, for each place it may have among what was encoded."""
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + raw).rstrip(b"=")
        # A character of six bits belongs to the secret when none of its bits come from what stands beside it.
        first = -(-8 * shift // 6)
        last = 8 * (shift + len(raw)) // 6
        spelling = whole[first:last]
        yield spelling
        yield spelling.replace(b"+", b"-").replace(b"/", b"_")
