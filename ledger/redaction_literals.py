"""Which values of an environment are secrets, and how they may be spelled in what is stored.

Rules this module keeps:
    * Only variables whose names speak of secrets give values; a value shorter than eight characters, a common
      word, a number, a path or an address without a password would blacken ordinary text and is left out.
    * Forty or 64 hexadecimal digits are a secret when a variable with such a name holds them, because many
      keys look so; a name that speaks of commits, caches or hashes holds an id.
    * A value is looked for as it is, as shells, HTML and Python quote it, as JSON spells any of these (once
      and twice escaped), percent-encoded, and in base64, alone or in the middle of what was encoded.
    * A value that holds several secrets (a list, a JSON object, `Bearer ...`, `user:password`) gives each.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, unquote, urlsplit

MINIMUM_LENGTH = 8

_NAME = re.compile(
    r"passw|passphrase|passcode|(?<!ask)(?<!by)(?<!com)pass(?:$|[_0-9](?!file|path|dir))|.pwd(?:$|[_0-9])|^pwd_"
    r"|(?:^|_)pw(?:$|[_0-9])|secret|(?<!max_)token(?!iz|_limit|_count)|bearer(?:$|_)|cookies?$|(?:^|_)jwt(?:$|_)"
    r"|api[_-]?key|access_?key|private_?key|[_-]keys?(?:$|[_0-9](?!file|path|dir|id$|name))|(?-i:[a-z]Key$)"
    r"|credential|(?:^|_)creds?(?:$|[_0-9])|(?:^|_)auth(?:$|_(?!sock))|authorization$|(?:^|_)pat(?:$|[_0-9])"
    r"|(?:^|_)sas(?:$|_)|(?:^|_)t?otp(?:$|_)|mnemonic|unseal|_dsn$|database_url|redis_url|connection_string"
    r"|webhook",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"(?:bearer|basic|token|bot|apikey) +(?=\S+$)", re.IGNORECASE)
_LIST = re.compile(r"[,;\s]+")
_HEX = re.compile(r"[0-9a-fA-F]+")
_UNICODE = re.compile(r"\\u[0-9a-f]{4}")
_MAX_DEPTH = 8
_MAX_LINE_CHARS = 64 * 1024
_MAX_ON_LINE = 64
_PATH = re.compile(r"^(?:~|\.{1,2}|[A-Za-z]:)?[/\\][^\s+=]*$")
_ID = re.compile(r"^(?:[0-9a-fA-F]{40}|[0-9a-fA-F]{64})$")
_ID_NAME = re.compile(r"cache|commit|revision|checksum|digest|fingerprint|sha(?:1|256)?(?:_|$)|hash", re.I)
_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DOTENV = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*[=:](?P<value>.*)$")
_DOTENV_MORE = re.compile(r"[\s;](?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)$")
_QUOTED = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|`[^`]*`""")
_UNQUOTE = re.compile(r"""\\(["\\$`])""")
_BEHIND = re.compile(r"\s+#|;(?:\s|$)|\s+(?=[A-Za-z_][A-Za-z0-9_]*=)")
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
            elif value.startswith("{"):
                yield from (part for part in _parts_of(value) if is_worth_hiding(part))
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
        yield from (part for part in _parts_of(value) if is_worth_hiding(part))


def _parts_of(value: str) -> Iterator[str]:
    """What may be used alone of a value that holds more than the secret."""
    if value.startswith(("{", "[")):
        try:
            decoded = json.loads(value)
        except (ValueError, RecursionError):
            decoded = None
        if isinstance(decoded, dict | list):
            yield from _leaves_of(decoded, "", _MAX_DEPTH)
            return
    scheme = _SCHEME.match(value)
    if scheme is not None:
        yield value[scheme.end() :]
        return
    user, colon, password = value.partition(":")
    if colon and re.fullmatch(r"[\w.@-]{1,64}", user) and not re.search(r"[\s,;]", password):
        yield password
        return
    parts = _LIST.split(value)
    # Words are no list of secrets: each part must look like one.
    if len(parts) > 1 and all(len(part) >= MINIMUM_LENGTH and re.search("[0-9]", part) for part in parts):
        yield from parts


def _leaves_of(value: object, name: str, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        if _NAME.search(name):
            yield value.strip()
    elif depth and isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves_of(item, str(key), depth - 1)
    elif depth and isinstance(value, list):
        for item in value:
            yield from _leaves_of(item, name or "token", depth - 1)


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
    text = raw_file.decode("utf-8-sig", "surrogateescape")
    for line in text.splitlines():
        match = _DOTENV.match(line[:_MAX_LINE_CHARS])
        for _ in range(_MAX_ON_LINE):
            if match is None:
                break
            value = _first_word(match["value"].strip())
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\"`"
            found[match["name"]] = _UNQUOTE.sub(r"\1", value[1:-1]) if quoted else value
            # `export A=1 B=2` and `A=1; export A` assign on.
            match = _DOTENV_MORE.search(match["value"], len(value))
    return found


def _first_word(value: str) -> str:
    """Return a value without what stands behind it: a comment, or the next command."""
    quoted = _QUOTED.match(value)
    if quoted is not None:
        return quoted[0]
    return _BEHIND.split(value, maxsplit=1)[0].rstrip()


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
    for quoted in _quotations(secret):
        yield quoted.encode("utf-8", "surrogateescape")
        for once in _json_spellings(quoted):
            yield once.encode("utf-8", "surrogateescape")
            yield json.dumps(once)[1:-1].encode()
    for safe in ("", "/"):
        quoted = quote(secret, safe=safe, errors="surrogateescape")
        for form in (quoted, quoted.replace("%20", "+")):
            yield form.encode()
            yield _ESCAPE.sub(lambda match: match[0].lower(), form).encode()
    yield from _base64_spellings(raw)


def _quotations(secret: str) -> set[str]:
    """The secret as it is, and as a shell, HTML or Python spells it; digits of a number in either case."""
    found = {secret, html.escape(secret), html.escape(secret, quote=False)}
    found.add(secret.replace("'", "'\\''"))
    found.add(secret.replace("'", "'\"'\"'"))
    # `printf %q`, `set -x` and the like put a backslash before what means something to a shell.
    found.add(re.sub(r"([^\w%+,./:=@~\n-])", r"\\\1", secret))
    # Between double quotes, four characters keep a meaning.
    found.add(re.sub(r'([\\"$`])', r"\\\1", secret))
    found |= {repr(secret)[1:-1], ascii(secret)[1:-1], repr(secret.encode("utf-8", "surrogateescape"))[2:-1]}
    if _HEX.fullmatch(secret):
        found |= {secret.upper(), secret.lower()}
    return found


def _json_spellings(text: str) -> set[str]:
    """JSON has several spellings of a string: what is beyond ASCII, and what is escaped without need."""
    found = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    for spelling in tuple(found):
        found.add(spelling.replace("/", "\\/"))
        found.add(spelling.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
        found.add(_UNICODE.sub(lambda match: match[0][:2] + match[0][2:].upper(), spelling))
    return found


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
