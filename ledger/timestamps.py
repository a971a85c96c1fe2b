"""Time stamps of signed heads, by an authority of RFC 3161.

Rules this module keeps:
    * What is stamped is SHA-256 of the signed head's note, byte for byte. The query asks for the authority's
      certificate and carries a nonce; a response to it must carry the same one.
    * A response counts when the stamp in it is of these very bytes, and its signer's certificate was valid at
      that time and leads to one of the authorities that are named. Names on the web are not trusted.
    * Queries are written here; responses are taken apart by `rfc3161-client`, an extra that may be missing.
      Without it nothing is stamped or believed, and that is said.
    * Only http and https are spoken, no redirect is followed, an answer is at most 64 KiB long.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509

from agentgov.clock import Random
from agentgov.errors import AgentgovError, BrokenRecordError, ConfigError, UntrustedSignerError
from agentgov.text import printable

AUTHORITIES_FILE: Final = ".agentgov/timestamp-authorities.pem"
MAX_RESPONSE_BYTES: Final = 65_536
MAX_AUTHORITIES: Final = 64
NONCE_BYTES: Final = 8
_SHA256: Final = "2.16.840.1.101.3.4.2.1"
# AlgorithmIdentifier {sha256, NULL}.
_SHA256_DER: Final = bytes.fromhex("300d06096086480165030402010500")
_QUERY_TYPE: Final = "application/timestamp-query"


@dataclass(frozen=True, slots=True)
class Stamp:
    """A time stamp that was verified.

    Attributes:
        who: The authority's name, from its certificate.
        ts: The latest moment at which it was made, microseconds since 1970 UTC: its time and its accuracy.
    """

    who: str
    ts: int


@dataclass(frozen=True, slots=True)
class Authorities:
    """The certificates of the authorities that are believed."""

    certificates: Sequence[x509.Certificate]

    @classmethod
    def parse(cls, raw: bytes, *, where: str | None = None) -> Authorities:
        """Parse a PEM file of certificates.

        Raises:
            ConfigError: AG0464, when it holds none, too many, or something else.
        """
        try:
            found = x509.load_pem_x509_certificates(raw)
        except ValueError:
            found = []
        if not 1 <= len(found) <= MAX_AUTHORITIES:
            raise ConfigError(
                "this must hold the certificates of time stamp authorities, in PEM form",
                id="AG0464",
                where=where,
            )
        return cls(tuple(found))


def is_available() -> bool:
    """Whether responses can be checked here."""
    return importlib.util.find_spec("rfc3161_client") is not None


def make_query(message: bytes, random: Random) -> tuple[bytes, int]:
    """Return a TimeStampReq (RFC 3161, 2.4.1) over SHA-256 of a message, in DER, and its nonce."""
    # The first bit set and a zero byte before it: always nine bytes, never negative.
    raw_nonce = bytes([0, random(1)[0] | 0x80]) + random(NONCE_BYTES - 1)
    imprint = _der(0x30, _SHA256_DER + _der(0x04, hashlib.sha256(message).digest()))
    wants_certificate = b"\x01\x01\xff"
    query = _der(0x30, b"\x02\x01\x01" + imprint + _der(0x02, raw_nonce) + wants_certificate)
    return query, int.from_bytes(raw_nonce, "big")


def verify_timestamp(
    raw_response: bytes, message: bytes, authorities: Authorities, *, nonce: int | None = None
) -> Stamp:
    """Verify a TimeStampResp, in DER, over a message.

    Args:
        raw_response: What the authority answered.
        message: What was to be stamped.
        authorities: Who is believed.
        nonce: The query's, for a response that has just come; a stored one is checked without.

    Raises:
        AgentgovError: AG0465, when the extra that can check it is not installed; AG0466, when the authority
            has refused.
        BrokenRecordError: AG0467, when it is no time stamp; AG0468, when it is one of something else.
        UntrustedSignerError: AG0469, when no believed authority has signed it.
    """
    if not is_available():
        raise AgentgovError(
            "time stamps cannot be checked: the optional part for them is not installed",
            id="AG0465",
            hint="pip install 'agentgov[timestamp]'",
        )
    response = _decode(raw_response)
    if response.status != 0:
        raise AgentgovError(
            f"the authority has not granted a time stamp: status {response.status}", id="AG0466"
        )
    info = _guarded(lambda: response.tst_info)
    imprint = info.message_imprint
    stamped = (imprint.hash_algorithm.dotted_string, bytes(imprint.message))
    if stamped != (_SHA256, hashlib.sha256(message).digest()):
        raise BrokenRecordError("this time stamp is of something else", id="AG0468")
    if nonce is not None and info.nonce != nonce:
        raise BrokenRecordError("this time stamp answers another query", id="AG0468")
    _verify_signer(response, message, authorities)
    moment = info.gen_time.replace(tzinfo=UTC) if info.gen_time.tzinfo is None else info.gen_time
    return Stamp(_signer_name(response), int(moment.timestamp() * 1_000_000) + _accuracy_us(info))


def is_of(raw_response: bytes, message: bytes) -> bool:
    """Whether a response says that it is about this message; whose it is, is not checked."""
    # The imprint stands in the stamp as it is, whatever surrounds it: no parser is needed to find it.
    return _der(0x04, hashlib.sha256(message).digest()) in raw_response


def request_timestamp(
    url: str, query: bytes, *, proxies: Mapping[str, str] | None = None, timeout_seconds: float = 10
) -> bytes:
    """Send a query to an authority (RFC 3161, 3.4) and return its answer, not verified.

    Args:
        url: `http://` or `https://`; the stamp itself is signed, so that either will do.
        query: What `make_query` returned.
        proxies: Proxies by scheme.
        timeout_seconds: How long each step may take.

    Raises:
        AgentgovError: AG0470, when the authority cannot be reached, redirects, or answers something else.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _unreachable("", "this is no address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _unreachable(url, "only http:// and https:// addresses can be asked")
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(dict(proxies or {})),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked above
        url, data=query, headers={"Content-Type": _QUERY_TYPE, "Accept": "application/timestamp-reply"}
    )
    try:
        with opener.open(request, timeout=timeout_seconds) as answer:
            # Without the handler for them, redirects and errors come back as any other answer.
            if answer.status != 200:
                raise _unreachable(url, f"it answered with status {answer.status}")
            raw: bytes = answer.read(MAX_RESPONSE_BYTES + 1)
    except (OSError, urllib.error.URLError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(url, printable(str(error) or type(error).__name__, limit=200)) from error
    if len(raw) > MAX_RESPONSE_BYTES:
        raise _unreachable(url, f"it answered with more than {MAX_RESPONSE_BYTES} bytes")
    return raw


def _verify_signer(response: Any, message: bytes, authorities: Authorities) -> None:
    from rfc3161_client import VerificationError, VerifierBuilder

    # Not `add_root_certificate`: in version 1.0.9 it shares one list between builders.
    verifier = VerifierBuilder(roots=list(authorities.certificates)).build()
    try:
        _guarded(lambda: verifier.verify_message(response, message), VerificationError)
    except VerificationError as error:
        raise UntrustedSignerError(
            f"no time stamp authority that is believed here has signed this: {printable(str(error))}",
            id="AG0469",
        ) from error


def _decode(raw_response: bytes) -> Any:
    from rfc3161_client import decode_timestamp_response

    if len(raw_response) > MAX_RESPONSE_BYTES:
        raise _malformed(f"longer than {MAX_RESPONSE_BYTES} bytes")
    response = _guarded(lambda: decode_timestamp_response(raw_response))
    if _guarded(response.as_bytes) != raw_response:
        raise _malformed("it does not print back identically")
    return response


def _guarded(call: Any, *allowed: type[Exception]) -> Any:
    """Call the library; whatever it raises over bytes from outside means that they are malformed."""
    try:
        return call()
    except allowed:
        raise
    except Exception as error:
        raise _malformed(printable(str(error) or type(error).__name__, limit=200)) from error
    except BaseException as error:
        # A panic in the library's own language is no Exception there, and no reason to end here.
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise _malformed("it cannot be taken apart") from error


def _signer_name(response: Any) -> str:
    signed = response.signed_data
    signers = [(signer.issuer, signer.serial_number) for signer in signed.signer_infos]
    for raw in signed.certificates:
        certificate = _guarded(lambda raw=raw: x509.load_der_x509_certificate(bytes(raw)))
        if (certificate.issuer, certificate.serial_number) in signers:
            names = certificate.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)
            text = names[0].value if names else certificate.subject.rfc4514_string()
            return printable(str(text), limit=80)
    return "an authority without a name"


def _accuracy_us(info: Any) -> int:
    accuracy = info.accuracy
    if accuracy is None:
        return 0
    seconds, millis, micros = accuracy.seconds or 0, accuracy.millis or 0, accuracy.micros or 0
    return int(seconds * 1_000_000 + millis * 1_000 + micros)


def _der(tag: int, content: bytes) -> bytes:
    # Everything in a query is shorter than 128 bytes: the short form of a length (X.690, 8.1.3.4).
    return bytes([tag, len(content)]) + content


def _malformed(what: str) -> BrokenRecordError:
    return BrokenRecordError(f"this is not a time stamp: {what}", id="AG0467")


def _unreachable(url: str, what: str) -> AgentgovError:
    # An address may hold a password.
    where = urlsplit(url)
    shown = f"{where.scheme}://{where.hostname or ''}{where.path}"
    return AgentgovError(
        f"the time stamp authority gave no answer: {what}",
        id="AG0470",
        where=printable(shown, limit=200),
        hint="agentgov witness --timestamp-query FILE   asks an authority by hand",
    )
