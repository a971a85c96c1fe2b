"""The curated patterns of the redaction funnel.

Each rule names the keyword that must stand in the text before its pattern is tried, and the pattern is tried
only at the keyword. A keyword begins with letters that are the same in all its forms: that is what makes the
search for it fast. There is no rule on entropy: half of what such rules find is commit ids, hashes and test
data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from re import Pattern

# In JSON text the letter before a secret may be the end of an escape such as \n, which is no part of a word.
_START = rb"(?:(?<![A-Za-z0-9_])|(?<=\\[nrtbf]))"
_END = rb"(?![A-Za-z0-9_])"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of secret: `pattern` is matched where `keyword` stands; its group ``secret`` is redacted."""

    kind: bytes
    keyword: Pattern[bytes]
    pattern: Pattern[bytes]
    any_case: bool = False
    accept: Callable[[bytes], bool] | None = None


def _token(kind: bytes, keyword: bytes, body: bytes, *, end: bytes = _END) -> Rule:
    return Rule(kind, re.compile(keyword), re.compile(_START + rb"(?P<secret>" + body + rb")" + end))


def _holds_key_material(secret: bytes) -> bool:
    """Code that only names the armour lines holds no key."""
    return re.search(rb"[A-Za-z0-9+/]{32}", secret) is not None


def _is_no_placeholder(secret: bytes) -> bool:
    return not _PLACEHOLDER.search(secret)


_PLACEHOLDER = re.compile(
    rb"^[$%<{*]|\$\{|\{\{|<[a-z]|\*\*\*|^x+$|xxxx|\.\.\.|^%|your[_-]|example|changeme|placeholder|dummy"
    rb"|^(?:op|vault|arn|https?|file|env|secret)(?::|$)|^pass(?:word|wd)?$",
    re.IGNORECASE,
)

# No possessive quantifiers: before Python 3.11.5 they go wrong around a part that backtracks (gh-106052).
_PRIVATE_KEY = re.compile(
    rb"(?P<secret>-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:[^-]*(?:-(?!----)[^-]*)*-----END [A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----"
    # The end is missing when a tool cut its output: take the armour that is there.
    rb"|(?:[A-Za-z0-9+/=]+|[ \t\r\n:,+-](?!----)|\\{1,8}[nrt])*))"
)
_URL = re.compile(rb"://[^/\s:@\"'\\<>]{0,128}:(?P<secret>[^@/\s\"'\\<>]{3,256})@[A-Za-z0-9\[_.-]")
_AUTHORIZATION = re.compile(
    rb"authorization[\\]{0,8}[\"']?\s{0,4}[:=,]\s{0,4}[\\]{0,8}[\"']?"
    rb"(?:bearer|basic|token|bot|apikey)\s{1,4}(?P<secret>[A-Za-z0-9+/=_.~:-]{8,4096})",
    re.IGNORECASE,
)
_BEARER = re.compile(
    rb"bearer\s{1,2}(?P<secret>(?=[A-Za-z_.~+/-]{0,64}[0-9])[A-Za-z0-9+/=_.~-]{20,4096})", re.IGNORECASE
)
_CURL_USER = re.compile(
    rb"curl[^\n|;]{1,256}?\s(?:-u|--user)[ =]?[\\]{0,2}[\"']?[^\s:\"'\\]{1,64}:(?P<secret>[^\s\"'\\]{4,128})"
)
_NETRC = re.compile(rb"login\s{1,8}\S{1,128}\s{1,8}password\s{1,8}(?P<secret>[^\s\"'\\]{4,128})")
_AZURE = re.compile(rb"AccountKey=(?P<secret>[A-Za-z0-9+/]{40,}={0,2})")
_SLACK_HOOK = re.compile(rb"hooks\.slack\.com/(?:services|workflows)/(?P<secret>[A-Za-z0-9/_-]{20,256})")
_DISCORD_HOOK = re.compile(rb"/api/webhooks/[0-9]{17,20}/(?P<secret>[A-Za-z0-9_-]{60,80})")
_TELEGRAM = re.compile(rb"api\.telegram\.org/bot(?P<secret>[0-9]{8,10}:[A-Za-z0-9_-]{35})")

RULES: tuple[Rule, ...] = (
    Rule(b"private-key", re.compile(rb"-----BEGIN "), _PRIVATE_KEY, accept=_holds_key_material),
    _token(b"aws-key-id", rb"A[KSBC][IC]A", rb"A[KSBC][IC]A[A-Z2-7]{16}"),
    _token(b"github", rb"gh[pousr]_", rb"gh[pousr]_[A-Za-z0-9]{36,255}"),
    _token(b"github", rb"github_pat_", rb"github_pat_[A-Za-z0-9_]{60,255}"),
    _token(
        b"gitlab",
        rb"gl(?:pat|dt|rt|ptt|cbt|soat|ft)-",
        rb"gl(?:pat|dt|rt|ptt|cbt|soat|ft)-[A-Za-z0-9_.-]{20,300}",
    ),
    _token(b"slack", rb"xox", rb"xox[abeoprs](?:\.xox[a-z])?-(?=[A-Za-z-]{0,64}[0-9])[A-Za-z0-9-]{10,300}"),
    _token(b"slack", rb"xapp-", rb"xapp-[0-9]-[A-Za-z0-9-]{20,300}"),
    Rule(b"slack-webhook", re.compile(rb"hooks\.slack\.com/"), _SLACK_HOOK),
    _token(b"stripe", rb"sk_(?:live|test)_", rb"sk_(?:live|test)_[A-Za-z0-9]{16,250}"),
    _token(b"stripe", rb"rk_(?:live|test)_", rb"rk_(?:live|test)_[A-Za-z0-9]{16,250}"),
    _token(b"stripe-webhook", rb"whsec_", rb"whsec_[A-Za-z0-9+/=]{24,250}"),
    _token(b"google", rb"AIza", rb"AIza[0-9A-Za-z_-]{35}", end=rb"(?![0-9A-Za-z_-])"),
    _token(b"google-oauth", rb"ya29\.", rb"ya29\.[0-9A-Za-z_-]{20,2048}"),
    _token(b"google-oauth", rb"GOCSPX-", rb"GOCSPX-[0-9A-Za-z_-]{24,64}"),
    _token(b"anthropic", rb"sk-ant-", rb"sk-ant-[A-Za-z0-9]{2,16}-[A-Za-z0-9_-]{20,255}"),
    _token(
        b"openai",
        rb"sk-",
        rb"sk-(?:(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{20,255}|or-v1-[0-9a-f]{64}|[A-Za-z0-9]{32,255})",
    ),
    _token(b"npm", rb"npm_", rb"npm_[A-Za-z0-9]{36}"),
    _token(b"pypi", rb"pypi-AgE", rb"pypi-AgE[A-Za-z0-9_-]{50,1024}"),
    _token(b"jwt", rb"eyJ", rb"eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,16384}\.[A-Za-z0-9_-]{8,4096}"),
    _token(b"sendgrid", rb"SG\.", rb"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    _token(b"huggingface", rb"hf_", rb"hf_[A-Za-z0-9]{34}"),
    _token(b"digitalocean", rb"do[opr]_v1_", rb"do[opr]_v1_[a-f0-9]{64}"),
    _token(b"shopify", rb"shp(?:at|ca|pa|ss)_", rb"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _token(b"databricks", rb"dapi", rb"dapi[a-f0-9]{32}(?:-[0-9])?"),
    _token(b"linear", rb"lin_api_", rb"lin_api_[A-Za-z0-9]{40}"),
    _token(b"docker", rb"dckr_pat_", rb"dckr_pat_[A-Za-z0-9_-]{20,64}"),
    _token(b"atlassian", rb"ATATT3", rb"ATATT3[A-Za-z0-9_=-]{50,300}"),
    _token(b"vault", rb"hv[sb]\.", rb"hv[sb]\.[A-Za-z0-9_-]{24,300}"),
    _token(b"age", rb"AGE-SECRET-KEY-1", rb"AGE-SECRET-KEY-1[A-Z0-9]{58}"),
    _token(b"grafana", rb"glsa_", rb"glsa_[A-Za-z0-9]{32}_[a-fA-F0-9]{8}"),
    _token(b"rubygems", rb"rubygems_", rb"rubygems_[a-f0-9]{48}"),
    _token(b"groq", rb"gsk_", rb"gsk_[A-Za-z0-9]{40,64}"),
    _token(b"xai", rb"xai-", rb"xai-[A-Za-z0-9]{60,100}"),
    _token(b"replicate", rb"r8_", rb"r8_[A-Za-z0-9]{37}"),
    _token(b"perplexity", rb"pplx-", rb"pplx-[A-Za-z0-9]{40,64}"),
    _token(b"sentry", rb"sntry", rb"sntry[su]_[A-Za-z0-9_=+/-]{40,300}"),
    _token(b"doppler", rb"dp\.", rb"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_.-]{40,80}"),
    _token(b"postman", rb"PMAK-", rb"PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    _token(b"notion", rb"ntn_", rb"ntn_[A-Za-z0-9]{40,60}"),
    _token(b"figma", rb"figd_", rb"figd_[A-Za-z0-9_-]{40,60}"),
    _token(b"supabase", rb"sbp_", rb"sbp_[a-f0-9]{40}"),
    _token(b"netlify", rb"nfp_", rb"nfp_[A-Za-z0-9]{36,48}"),
    _token(b"planetscale", rb"pscale_", rb"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{32,64}"),
    _token(b"pulumi", rb"pul-", rb"pul-[a-f0-9]{40}"),
    _token(b"square", rb"sq0", rb"sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,60}"),
    _token(b"new-relic", rb"NRAK-", rb"NRAK-[A-Z0-9]{27}"),
    _token(b"aws-bedrock", rb"ABSK", rb"ABSK[A-Za-z0-9+/]{109,269}={0,2}", end=rb"(?![A-Za-z0-9+/=])"),
    Rule(b"discord-webhook", re.compile(rb"/api/webhooks/"), _DISCORD_HOOK),
    Rule(b"telegram", re.compile(rb"api\.telegram\.org/bot"), _TELEGRAM),
    Rule(b"azure", re.compile(rb"AccountKey="), _AZURE),
    Rule(b"url-password", re.compile(rb"://"), _URL, accept=_is_no_placeholder),
    Rule(
        b"authorization",
        re.compile(rb"authorization"),
        _AUTHORIZATION,
        any_case=True,
        accept=_is_no_placeholder,
    ),
    Rule(b"bearer", re.compile(rb"bearer "), _BEARER, any_case=True),
    Rule(b"curl-user", re.compile(rb"curl "), _CURL_USER, accept=_is_no_placeholder),
    Rule(b"netrc", re.compile(rb"login "), _NETRC, accept=_is_no_placeholder),
)

GENERIC_NAMES: tuple[tuple[Pattern[bytes], bytes], ...] = (
    (re.compile(rb"pass(?:w|phrase)"), b"password"),
    (re.compile(rb"secret"), b"secret"),
    (re.compile(rb"token"), b"token"),
    (re.compile(rb"api[_-]?key"), b"api-key"),
    (re.compile(rb"access_?key"), b"api-key"),
    (re.compile(rb"private_key"), b"private-key"),
    (re.compile(rb"credential"), b"credential"),
)
"""What a name contains whose value is a secret, in small letters, and the kind it is called."""

_NAME_END = rb"(?:ord|d)?(?:[_-]?(?:access[_-]?)?(?:key|token|value|base))?[0-9]{0,2}(?![A-Za-z0-9_-])"
_ASSIGN = re.compile(
    _NAME_END + rb"(?P<close>[\\]{0,8}[\"'`]?\]?)(?P<pad>[ \t]{0,8})"
    rb"(?::[ \t]?(?:str|String|string|bytes)[ \t]{0,2})?(?:=>|:=|=|:)(?!=)[ \t]{0,8}"
    rb"(?:(?P<quote>[\\]{0,8}[\"'`])(?P<quoted>[^\r\n]{8,512}?)(?<!\\)(?P=quote)"
    rb"|(?P<bare>[A-Za-z0-9_/+=.~!@#^*:-]{8,512})(?=$|[\s&;\"'\\|<>]))",
    re.IGNORECASE,
)
_FLAG = re.compile(
    _NAME_END + rb"(?:=|[ \t]{1,4}|[\\]{0,8}[\"'],[ \t\n]{0,8}[\\]{0,8}[\"'])[\\]{0,2}[\"']?"
    rb"(?P<bare>[^\s\"'\\,;|<>()]{8,512})",
    re.IGNORECASE,
)
_FLAG_BEFORE = re.compile(rb"--[A-Za-z0-9_-]{0,32}$")
_PATH = re.compile(rb"^(?:~|\.{1,2})?(?:/[\w.@-]+)+/?$|^[\w.-]+/[\w./-]+\.[a-z]{1,5}$")
_DOTTED_NAME = re.compile(rb"^[A-Za-z_$]\w*(?:(?:\.|::|->|-)[A-Za-z_]\w*)+$")
_SNAKE_NAME = re.compile(rb"^[A-Za-z]+(?:_[A-Za-z0-9]+)+$|^[a-z]+(?:[A-Z][a-z]+)+[0-9]?$")


def generic_secret(value: bytes, name_start: int, name_end: int) -> tuple[int, int] | None:
    """Find the literal assigned to the name that holds `value[name_start:name_end]`.

    Returns:
        The span of the secret, or None when nothing is assigned there, or what is assigned is not a literal
        secret (a name, a call, a path, a placeholder, prose).
    """
    if _FLAG_BEFORE.search(value, max(0, name_start - 34), name_start):
        match = _FLAG.match(value, name_end)
        if (
            match is not None
            and not match["bare"].startswith(b"-")
            and _is_bare_secret(match["bare"], loud=False)
        ):
            return match.span("bare")
    match = _ASSIGN.match(value, name_end)
    if match is None:
        return None
    if match["quoted"] is not None:
        return match.span("quoted") if _is_quoted_secret(match["quoted"]) else None
    # NAME=value in capitals is a shell's or a .env file's way to write it, and never a keyword argument.
    loud = value[name_start:name_end].isupper() and not match["pad"]
    return match.span("bare") if _is_bare_secret(match["bare"], loud=loud) else None


def looks_secret(value: bytes) -> bool:
    """Whether `value` looks like a literal secret and not like a name, a path, a placeholder or prose."""
    return _is_quoted_secret(value)


def _is_ruled_out(secret: bytes) -> bool:
    return bool(_PLACEHOLDER.search(secret) or _PATH.match(secret))


def _is_quoted_secret(secret: bytes) -> bool:
    if _is_ruled_out(secret) or re.search(rb"[\s(){}<>]", secret):
        return False
    # Words joined by - _ . are names of things; a digit, a symbol or a stray capital is not how names look.
    if re.search(rb"[0-9]|[^A-Za-z_.,\\-]", secret):
        return True
    return not _SNAKE_NAME.match(secret) and re.search(rb"[a-z][A-Z]", secret) is not None


def _is_bare_secret(secret: bytes, *, loud: bool) -> bool:
    if _is_ruled_out(secret):
        return False
    if loud:
        return True
    if _SNAKE_NAME.match(secret):
        return False
    if _DOTTED_NAME.match(secret) and not re.search(rb"[0-9].*[0-9]", secret):
        return False
    return bool(re.search(rb"[0-9]", secret) and re.search(rb"[A-Za-z]", secret))
