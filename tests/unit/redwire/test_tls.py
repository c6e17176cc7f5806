from __future__ import annotations

import os
import ssl
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

from redwire.errors import RedwireError, TlsInvalid
from redwire.handshake import Identity, PrincipalKind
from redwire.tls import (
    ClientFiles,
    certificate_expiry_ms,
    certificate_identities,
    client_context,
    require_private_key,
    server_context,
)

NODE = "redwire://shop/node/eu-1"


def shake_hands(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    hostname: str = "localhost",
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A TLS handshake in memory, to its end on both sides. Raises `ssl.SSLError` of the side that refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=hostname, session=session),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert all(side.version() for side in sides)
    return sides[0], sides[1]


def test_two_nodes_know_each_other_over_tls_1_3(authority: Any) -> None:
    one, two = authority.sign("one", NODE), authority.sign("two", "redwire://shop/node/us-1")
    server, client = shake_hands(
        server_context(authority.ca, one.cert, one.key),
        client_context(authority.ca, two.cert, two.key, peer=True),
    )
    assert server.version() == client.version() == "TLSv1.3"
    assert server.selected_alpn_protocol() == client.selected_alpn_protocol() == "redwire/1"
    assert certificate_identities(server) == Identity("shop", PrincipalKind.NODE, "us-1")
    assert certificate_identities(client) == Identity("shop", PrincipalKind.NODE, "eu-1")


def test_a_client_needs_no_certificate_and_then_has_no_identity(authority: Any) -> None:
    one = authority.sign("one", NODE)
    server, _ = shake_hands(
        server_context(authority.ca, one.cert, one.key), client_context(authority.ca, peer=False)
    )
    assert certificate_identities(server) is None
    assert certificate_identities(None) is None


@pytest.mark.parametrize(
    ("uris", "identity"),
    [
        ((), None),
        (("redwire://shop/user/ann",), Identity("shop", PrincipalKind.USER, "ann")),
        (("https://example.net/x", "redwire://shop/user/ann"), Identity("shop", PrincipalKind.USER, "ann")),
        (("redwire://shop/user/ann", NODE), None),
        (("redwire://shop/root/ann",), None),
        (("spiffe://shop/user/ann",), None),
    ],
)
def test_a_certificate_names_one_identity_or_nobody(
    authority: Any, uris: tuple[str, ...], identity: Identity | None
) -> None:
    one, two = authority.sign("one", NODE), authority.sign("two", *uris)
    server, _ = shake_hands(
        server_context(authority.ca, one.cert, one.key),
        client_context(authority.ca, two.cert, two.key, peer=False),
    )
    assert certificate_identities(server) == identity


def test_a_client_checks_ca_host_name_and_dates(authority: Any, stranger: Any) -> None:
    one = authority.sign("one", NODE)
    old = authority.sign("old", NODE, lifetime=timedelta(seconds=-60))
    server = server_context(authority.ca, one.cert, one.key)
    for context, client, hostname, says in [
        (
            server,
            client_context(stranger.ca, peer=False),
            "localhost",
            "certificate verify failed: (self-signed|unable)",
        ),
        (
            server,
            client_context(None, peer=False),
            "localhost",
            "certificate verify failed: (self-signed|unable)",
        ),
        (server, client_context(authority.ca, peer=False), "example.net", "Hostname mismatch"),
        (
            server_context(authority.ca, old.cert, old.key),
            client_context(authority.ca, peer=False),
            "localhost",
            "certificate has expired",
        ),
    ]:
        with pytest.raises(ssl.SSLCertVerificationError, match=says):
            shake_hands(context, client, hostname)


def test_a_server_refuses_a_certificate_of_another_ca(authority: Any, stranger: Any) -> None:
    one, foreign = authority.sign("one", NODE), stranger.sign("foreign", NODE)
    server = server_context(authority.ca, one.cert, one.key)
    client = client_context(authority.ca, foreign.cert, foreign.key, peer=False)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, client)


def test_drivers_may_come_with_tls_1_2_and_nodes_may_not(authority: Any) -> None:
    one = authority.sign("one", NODE)
    server = server_context(authority.ca, one.cert, one.key)
    driver = client_context(authority.ca, peer=False)
    driver.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake_hands(server, driver)[0].version() == "TLSv1.2"
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(server, client_context(authority.ca, one.cert, one.key, peer=True))


def test_a_server_gives_out_no_session_to_resume(authority: Any) -> None:
    one = authority.sign("one", NODE)
    server, client = shake_hands(
        server_context(authority.ca, one.cert, one.key), client_context(authority.ca, peer=False)
    )
    server.write(b"x")
    assert client.read(1) == b"x"
    assert client.session is None or not client.session.has_ticket


def test_a_session_of_tls_1_2_that_is_resumed_proves_nobody(authority: Any) -> None:
    one, ops = authority.sign("one", NODE), authority.sign("ops", "redwire://shop/user/ops")
    server = server_context(authority.ca, one.cert, one.key)
    client = client_context(authority.ca, ops.cert, ops.key, peer=False)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    far, near = shake_hands(server, client)
    assert certificate_identities(far) == Identity("shop", PrincipalKind.USER, "ops")
    again, _ = shake_hands(server, client, session=near.session)
    assert again.session_reused and again.getpeercert()
    assert certificate_identities(again) is None


def test_a_link_between_nodes_cannot_do_without_a_private_ca(authority: Any) -> None:
    one = authority.sign("one", NODE)
    with pytest.raises(AssertionError):
        client_context(None, one.cert, one.key, peer=True)
    with pytest.raises(AssertionError):
        client_context(authority.ca, peer=True)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_that_others_can_use_is_refused(authority: Any, mode: int) -> None:
    loose = authority.sign(f"loose-{mode:o}", NODE)
    loose.key.chmod(mode)
    for use in (
        lambda: require_private_key(loose.key),
        lambda: server_context(authority.ca, loose.cert, loose.key),
        lambda: client_context(authority.ca, loose.cert, loose.key, peer=False),
    ):
        with pytest.raises(TlsInvalid, match=rf"loose-{mode:o}\.key: .*\(mode {mode:04o}\); chmod 600"):
            use()
    loose.key.chmod(0o400)
    require_private_key(loose.key)


def test_a_pipe_in_the_place_of_a_certificate_or_a_key_holds_nobody_up(
    authority: Any, tmp_path: Path
) -> None:
    one, pipe = authority.sign("one", NODE), tmp_path / "pipe.pem"
    os.mkfifo(pipe, 0o600)
    for ca, cert, key in ((authority.ca, pipe, one.key), (authority.ca, one.cert, pipe), (pipe, None, None)):
        with pytest.raises(TlsInvalid, match=r"pipe\.pem: it is no regular file"):
            ClientFiles(ca, cert, key)


def test_every_bad_file_is_named_with_its_reason(authority: Any, tmp_path: Path) -> None:
    one, two = authority.sign("one", NODE), authority.sign("two", NODE)
    short = authority.sign("short", NODE, rsa_bits=1024)
    locked = authority.sign("locked", NODE, encryption=BestAvailableEncryption(b"s3cret"))
    empty, missing = tmp_path / "empty.pem", tmp_path / "missing.pem"
    empty.write_bytes(b"")
    empty.chmod(0o600)
    binary = tmp_path / "binary.pem"
    binary.write_bytes(b"\xff\xfe")
    for ca, cert, key, says in [
        (missing, one.cert, one.key, "missing.pem: no CA certificate can be read from it: No such file"),
        (empty, one.cert, one.key, "empty.pem: no CA certificate can be read from it: "),
        (authority.ca, missing, one.key, "missing.pem: the certificate cannot be read: No such file"),
        (authority.ca, empty, one.key, "empty.pem: holds no certificate that can be read"),
        (authority.ca, binary, one.key, "binary.pem: holds no certificate that can be read"),
        (authority.ca, one.cert, missing, "missing.pem: the key cannot be read: No such file"),
        (authority.ca, one.cert, empty, "empty.pem: holds no whole private key in PEM format"),
        (authority.ca, one.cert, two.key, "two.key: not the key of .*one.pem"),
        (authority.ca, locked.cert, locked.key, "locked.key: the key is encrypted"),
        (
            authority.ca,
            short.cert,
            short.key,
            "short.pem: too weak for TLS on this machine: EE_KEY_TOO_SMALL",
        ),
    ]:
        with pytest.raises(TlsInvalid, match=says) as caught:
            server_context(ca, cert, key)
        assert isinstance(caught.value, RedwireError)
        assert caught.value.facts["file"]


@pytest.mark.parametrize("days", [-1, 30, 365 * 40])
def test_the_expiry_of_a_certificate_is_read_from_its_file(authority: Any, days: int) -> None:
    one = authority.sign("one", NODE, lifetime=timedelta(days=days))
    expected = (time.time() + days * 86_400) * 1000
    assert abs(certificate_expiry_ms(one.cert) - expected) < 60_000


@pytest.mark.parametrize("body", ["", "AAAA", "MAA=", "MAYwBDACAQE=", "////"])
def test_a_pem_that_is_no_certificate_has_no_expiry(tmp_path: Path, body: str) -> None:
    path = tmp_path / "odd.pem"
    path.write_text(f"{ssl.PEM_HEADER}\n{body}\n{ssl.PEM_FOOTER}\n")
    with pytest.raises(TlsInvalid, match="odd.pem: holds no certificate"):
        certificate_expiry_ms(path)


def put(path: Path, data: bytes) -> None:
    """Replace the file, or make it, whole."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.chmod(0o600)
    fresh.replace(path)


def test_a_clients_files_are_read_anew_once_all_of_them_are_replaced(
    authority: Any, stranger: Any, tmp_path: Path
) -> None:
    issued = authority.sign("app", "redwire://shop/user/app"), stranger.sign("app", "redwire://shop/user/new")
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))

    def server(maker: Any) -> ssl.SSLContext:
        node = maker.sign("node", NODE)
        return server_context(maker.ca, node.cert, node.key)

    for path, data in ((ca, authority.ca), (cert, issued[0].cert), (key, issued[0].key)):
        put(path, data.read_bytes())
    files = ClientFiles(ca, cert, key)
    first = files.context()
    assert files.context() is first
    put(ca, authority.ca.read_bytes() + stranger.ca.read_bytes())
    both = files.context()
    assert both is not first
    shake_hands(server(authority), both)
    put(cert, issued[1].cert.read_bytes())
    assert files.context() is both, "the key is not its own"
    key.unlink()
    assert files.context() is both
    put(key, issued[1].key.read_bytes())
    told, _ = shake_hands(server(stranger), files.context())
    assert certificate_identities(told) == Identity("shop", PrincipalKind.USER, "new")
    with pytest.raises(TlsInvalid, match="none.pem"):
        ClientFiles(tmp_path / "none.pem", None, None)


def test_a_client_warns_of_files_that_it_cannot_use_once_for_each_change_of_them(
    authority: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ca = tmp_path / "ca.pem"
    put(ca, authority.ca.read_bytes())
    files = ClientFiles(ca, None, None)
    first = files.context()
    for damaged in (b"not yet", b"nor now"):
        put(ca, damaged)
        assert [files.context() for _ in range(3)] == [first] * 3
    put(ca, authority.ca.read_bytes())
    assert files.context() is not first
    told = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    (name, level, text), again = told
    assert (name, level) == ("redwire", "WARNING") and again[:2] == (name, level)
    assert text.startswith(f"the client goes on with its files as it read them before: {ca}: no CA cert")


def test_a_key_that_is_removed_while_it_is_looked_at_is_one_that_cannot_be_read(
    authority: Any, tmp_path: Path
) -> None:
    class Fleeting(type(tmp_path)):  # type: ignore[misc]
        """A file that is gone once it was read."""

        def read_bytes(self) -> bytes:
            raise FileNotFoundError(2, "No such file or directory")

    one, key = authority.sign("one", NODE), Fleeting(tmp_path / "key.pem")
    key.touch(0o600)  # of which nothing is written yet
    with pytest.raises(TlsInvalid, match="key.pem: the key cannot be read: No such file"):
        client_context(authority.ca, one.cert, key, peer=False)


def test_the_files_of_a_client_are_the_same_ones_in_whatever_folder_it_is_by_now(
    authority: Any, stranger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, elsewhere = tmp_path / "ca.pem", tmp_path / "elsewhere"
    elsewhere.mkdir()
    ca.write_bytes(authority.ca.read_bytes())
    (elsewhere / "ca.pem").write_bytes(stranger.ca.read_bytes())
    monkeypatch.chdir(tmp_path)
    files = ClientFiles(Path("ca.pem"), None, None)
    first = files.context()
    monkeypatch.chdir(elsewhere)
    assert files.context() is first
    ca.write_bytes(authority.ca.read_bytes() + stranger.ca.read_bytes())
    assert files.context() is not first
    with pytest.raises(TlsInvalid, match=r"^none\.pem: "):
        ClientFiles(Path("none.pem"), None, None)
