"""Time stamps of RFC 3161: queries that openssl reads, answers that count, and all that do not."""

from __future__ import annotations

import hashlib
import http.server
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.clock import Random
from agentgov.errors import AgentgovError, BrokenRecordError, ConfigError, ExitCode, UntrustedSignerError
from agentgov.ledger import timestamps
from agentgov.ledger.timestamps import (
    Authorities,
    Stamp,
    is_of,
    make_query,
    request_timestamp,
    verify_timestamp,
)
from tests.support.authority import NOW, Authority, make_authority

MESSAGE = b"agentgov/00\n2\nroot\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tsa") / "a")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tsa") / "b", "Other Authority")


@pytest.fixture(scope="module")
def response(authority: Authority) -> bytes:
    return authority.answer(make_query(MESSAGE, bytes)[0])


def believe(*authorities: Authority) -> Authorities:
    return Authorities.parse(b"".join(item.root_pem for item in authorities))


def test_openssl_reads_the_query(tmp_path: Path, rng: Random) -> None:
    query, nonce = make_query(MESSAGE, rng)
    (tmp_path / "q").write_bytes(query)
    shown = subprocess.run(
        ["openssl", "ts", "-query", "-in", str(tmp_path / "q"), "-text"], capture_output=True, check=True
    ).stdout.decode()
    assert "Hash Algorithm: sha256" in shown
    assert f"0x{nonce:X}" in shown
    assert "Certificate required: yes" in shown
    dumped = "".join(line.partition("-")[2][:49] for line in shown.splitlines() if " - " in line)
    assert hashlib.sha256(MESSAGE).hexdigest() in dumped.replace(" ", "").replace("-", "")


def test_queries_differ_in_their_nonce(rng: Random) -> None:
    nonces = {make_query(MESSAGE, rng)[1] for _ in range(50)}
    assert len(nonces) == 50
    assert all(2**63 <= nonce < 2**64 for nonce in nonces)


def test_a_stamp_counts_and_names_its_authority_and_the_latest_moment(
    authority: Authority, rng: Random
) -> None:
    query, nonce = make_query(MESSAGE, rng)
    raw = authority.answer(query)
    assert authority.check(raw, MESSAGE)
    stamp = verify_timestamp(raw, MESSAGE, believe(authority), nonce=nonce)
    assert stamp.who == "Test Authority"
    assert abs(stamp.ts / 1_000_000 - NOW.timestamp()) < 3600
    # Its accuracy is a second: what it says is a whole second, and one more.
    assert stamp.ts % 1_000_000 == 0
    assert is_of(raw, MESSAGE)


def test_a_stamp_of_something_else_does_not_count(authority: Authority, response: bytes) -> None:
    with pytest.raises(BrokenRecordError) as error:
        verify_timestamp(response, MESSAGE + b"x", believe(authority))
    assert error.value.id == "AG0468"
    assert not is_of(response, MESSAGE + b"x")


def test_an_answer_to_another_query_does_not_count(authority: Authority, response: bytes) -> None:
    with pytest.raises(BrokenRecordError) as error:
        verify_timestamp(response, MESSAGE, believe(authority), nonce=1)
    assert error.value.id == "AG0468"


def test_an_authority_that_is_not_believed_does_not_count(
    authority: Authority, other: Authority, response: bytes
) -> None:
    with pytest.raises(UntrustedSignerError) as error:
        verify_timestamp(response, MESSAGE, believe(other))
    assert error.value.id == "AG0469"
    assert verify_timestamp(response, MESSAGE, believe(other, authority)).who == "Test Authority"


def test_an_authority_of_the_same_name_does_not_count(tmp_path: Path, response: bytes) -> None:
    with pytest.raises(UntrustedSignerError):
        verify_timestamp(response, MESSAGE, believe(make_authority(tmp_path / "twin")))


@pytest.mark.parametrize("span", [(-20, -10), (10, 20)], ids=["expired", "not-yet"])
def test_a_certificate_outside_its_time_does_not_count(tmp_path: Path, span: tuple[int, int]) -> None:
    begins, ends = (timedelta(days=days) for days in span)
    late = make_authority(tmp_path / "late", begins=begins, ends=ends)
    with pytest.raises(UntrustedSignerError):
        verify_timestamp(late.answer(make_query(MESSAGE, bytes)[0]), MESSAGE, believe(late))


def test_a_signed_stamp_changed_in_one_byte_does_not_count(authority: Authority, response: bytes) -> None:
    stamp = verify_timestamp(response, MESSAGE, believe(authority))
    for place in range(0, len(response), 7):
        changed = response[:place] + bytes([response[place] ^ 1]) + response[place + 1 :]
        try:
            got = verify_timestamp(changed, MESSAGE, believe(authority))
        except AgentgovError:
            continue
        # A byte that nothing signs, such as one of the status text's, changes nothing that is said.
        assert got == stamp


@pytest.mark.parametrize("keep", [0, 1, 2, 9, 50, 0.5, -1])
def test_a_cut_answer_is_malformed(authority: Authority, response: bytes, keep: float) -> None:
    cut = response[: int(len(response) * keep)] if keep == 0.5 else response[: int(keep)]
    with pytest.raises(BrokenRecordError) as error:
        verify_timestamp(cut, MESSAGE, believe(authority))
    assert error.value.id == "AG0467"


def test_an_answer_with_more_behind_it_is_malformed(authority: Authority, response: bytes) -> None:
    with pytest.raises(BrokenRecordError):
        verify_timestamp(response + b"\0", MESSAGE, believe(authority))


def test_a_refusal_is_no_stamp(authority: Authority) -> None:
    query, _ = make_query(MESSAGE, bytes)
    # SHA-1 in place of SHA-256: the authority does not take it.
    refused = authority.answer(
        query.replace(bytes.fromhex("608648016503040201"), bytes.fromhex("608648016503040204"))
    )
    with pytest.raises(AgentgovError) as error:
        verify_timestamp(refused, MESSAGE, believe(authority))
    assert error.value.id in ("AG0466", "AG0467")


@given(raw=st.binary(max_size=300))
def test_no_bytes_are_a_stamp_and_none_end_the_program(raw: bytes) -> None:
    with pytest.raises(AgentgovError) as error:
        verify_timestamp(raw, MESSAGE, Authorities(()))
    assert error.value.exit_code in (ExitCode.BROKEN, ExitCode.UNTRUSTED, ExitCode.ERROR)


def test_an_answer_that_is_too_long_is_not_looked_at(authority: Authority) -> None:
    with pytest.raises(BrokenRecordError):
        verify_timestamp(b"0" * (timestamps.MAX_RESPONSE_BYTES + 1), MESSAGE, believe(authority))


@pytest.mark.parametrize(
    "raw", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_certificates_is_refused(raw: bytes) -> None:
    with pytest.raises(ConfigError) as error:
        Authorities.parse(raw)
    assert error.value.id == "AG0464"


def test_without_the_extra_it_says_what_to_install(
    authority: Authority, response: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timestamps, "is_available", lambda: False)
    with pytest.raises(AgentgovError) as error:
        verify_timestamp(response, MESSAGE, believe(authority))
    assert error.value.id == "AG0465"
    assert "agentgov[timestamp]" in error.value.hint[0]


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as the test wants, and remembers what it was asked."""

    status: ClassVar[int] = 200
    body: ClassVar[bytes] = b""
    headers_sent: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[tuple[str, bytes, str | None]]] = []

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        Server.asked.append((self.path, self.rfile.read(length), self.headers.get("Content-Type")))
        self.send_response(Server.status)
        for name, value in Server.headers_sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(Server.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(status: int = 200, body: bytes = b"", headers: dict[str, str] | None = None) -> Iterator[str]:
    Server.status, Server.body, Server.headers_sent, Server.asked = status, body, headers or {}, []
    with socketserver.TCPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/tsr"
        finally:
            server.shutdown()
            thread.join()


def test_an_authority_is_asked_as_the_standard_says() -> None:
    with serving(body=b"answer") as url:
        assert request_timestamp(url, b"query") == b"answer"
    assert Server.asked == [("/tsr", b"query", "application/timestamp-query")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 404, 500])
def test_a_redirect_or_an_error_is_not_followed(status: int) -> None:
    with serving(status, headers={"Location": "file:///etc/passwd"}) as url:
        with pytest.raises(AgentgovError) as error:
            request_timestamp(url, b"query")
        assert error.value.id == "AG0470"
        assert len(Server.asked) == 1


def test_an_answer_without_end_is_not_heard_out() -> None:
    with serving(body=b"x" * 200_000) as url, pytest.raises(AgentgovError) as error:
        request_timestamp(url, b"query")
    assert error.value.id == "AG0470"


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://x/y", "data:,x", "http://", "", "//x", "http://127.0.0.1:1/", "http://[/"],
)
def test_an_address_that_cannot_be_asked_is_an_error(url: str) -> None:
    with pytest.raises(AgentgovError) as error:
        request_timestamp(url, b"query", timeout_seconds=2)
    assert error.value.id == "AG0470"


def test_a_password_in_the_address_is_not_shown() -> None:
    with pytest.raises(AgentgovError) as error:
        request_timestamp("http://user:secret@127.0.0.1:1/x", b"query", timeout_seconds=2)
    assert "secret" not in str(error.value) + str(error.value.hint)


def test_a_stamp_is_equal_to_itself() -> None:
    assert Stamp("a", 1) == Stamp("a", 1)
