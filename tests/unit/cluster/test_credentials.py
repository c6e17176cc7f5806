"""Key, certificate and trust bundle: what is refused before anybody meets it, how one set follows another."""

from __future__ import annotations

import os
import shutil
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec.structs import replace

from cluster.config import TlsConfig
from cluster.credentials import (
    DAY_MS,
    AuthorityEnd,
    CredentialSet,
    NodeCredentials,
    Reminder,
    authority_ends,
    day,
    load,
    wall_ms,
)
from redwire.errors import TlsInvalid
from redwire.position import NodeId
from redwire.tls import client_context
from tools.authority import Authority, Issued

HOSTS = ["127.0.0.1", "eu-1.example.net"]
ME = NodeId("eu-1")
NOW = datetime.now(UTC)


def write(folder: Path, issued: Issued, *authorities: Authority) -> TlsConfig:
    """The three files of a node, whatever was there before."""
    (folder / "ca.pem").write_bytes(b"".join(authority.pem for authority in authorities))
    for name, data in (("eu-1.pem", issued.cert), ("eu-1.key", issued.key)):
        fresh = folder / f"{name}.new"
        fresh.write_bytes(data)
        fresh.chmod(0o600)
        os.replace(fresh, folder / name)
    return TlsConfig(**{key: str(folder / f"{name}") for key, name in FILES.items()})


FILES = {"ca": "ca.pem", "cert": "eu-1.pem", "key": "eu-1.key"}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("shop")


def read(files: TlsConfig, now_ms: int | None = None) -> CredentialSet:
    return load(files, "shop", ME, wall_ms() if now_ms is None else now_ms)


def test_a_set_in_order_says_until_when_for_whom_and_by_whom(tmp_path: Path, authority: Authority) -> None:
    issued = authority.issue_node("eu-1", HOSTS)
    found = read(write(tmp_path, issued, authority))
    assert found.not_after_ms == int(issued.not_after.timestamp()) * 1000
    assert found.days_left(found.not_after_ms - 3 * DAY_MS - 1) == 3
    assert found.days_left(found.not_after_ms + 1) == -1
    assert found.hosts == {"127.0.0.1", "eu-1.example.net"}
    assert [each.name for each in found.authorities] == ["the authority of shop"]
    assert found.server.verify_mode is ssl.CERT_OPTIONAL
    assert found.client.check_hostname and found.client.minimum_version is ssl.TLSVersion.TLSv1_3


def self_signed(authority: Authority) -> Issued:
    key = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(authority.pem, key, NOW)


def of_another_cluster(authority: Authority) -> Issued:
    return Authority("store", authority.certificate, authority.key).issue_node("eu-1", HOSTS)


MISMATCHES: dict[str, tuple[Callable[[Authority], Issued], str]] = {
    "by another authority of the same name": (
        lambda a: Authority.create("shop").issue_node("eu-1", HOSTS),
        "no authority in .*ca.pem has issued this certificate; put the ca.pem of the authority that did into",
    ),
    "by itself": (
        lambda a: self_signed(Authority.create("shop")),
        "no authority in .*ca.pem has issued this certificate",
    ),
    "of another node": (
        lambda a: a.issue_node("us-1", HOSTS),
        "the certificate names redwire://shop/node/us-1, this node is redwire://shop/node/eu-1; use this",
    ),
    "of another cluster": (
        of_another_cluster,
        "the certificate names redwire://store/node/eu-1, this node is redwire://shop/node/eu-1; "
        "if the cluster is another than shop, see cluster.name; else use this node's own",
    ),
    "of a user": (
        lambda a: a.issue_user("eu-1"),
        "it is no node's certificate: it may not be shown at both ends of a connection; issue it with",
    ),
    "that has expired": (
        lambda a: a.issue_node("eu-1", HOSTS, days=1, now=NOW - timedelta(days=9)),
        r"the certificate has expired on 2\d{3}-\d\d-\d\d \d\d:\d\d UTC; issue it anew: redwire certs issue",
    ),
    "that is not valid yet": (
        lambda a: a.issue_node("eu-1", HOSTS, now=NOW + timedelta(days=9)),
        r"the certificate is not valid before 2\d{3}-\d\d-\d\d .* UTC; check this machine's clock, or wait",
    ),
}


@pytest.mark.parametrize(("issue", "words"), MISMATCHES.values(), ids=MISMATCHES)
def test_a_certificate_that_peers_would_refuse_is_refused_and_called_what_it_is(
    tmp_path: Path, authority: Authority, issue: Callable[[Authority], Issued], words: str
) -> None:
    files = write(tmp_path, issue(authority), authority)
    with pytest.raises(TlsInvalid, match=f"{tmp_path}/eu-1.pem: {words}"):
        read(files)


def forged(authority: Authority, *names: x509.GeneralName) -> Issued:
    """A certificate with just these names, which does not end before its authority does."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = authority.key.public_key()
    end = NOW + timedelta(days=400)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(()))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(certificate.public_bytes(Encoding.PEM), pem, end)


URI = x509.UniformResourceIdentifier("redwire://shop/node/eu-1")


def test_a_certificate_without_the_name_that_peers_ask_for_is_refused(
    tmp_path: Path, authority: Authority
) -> None:
    files = write(tmp_path, forged(authority, URI, x509.DNSName("eu-1.example.net")), authority)
    with pytest.raises(TlsInvalid, match="the certificate lacks the DNS name eu-1.shop.redwire, by which"):
        read(files)


def test_a_certificate_that_names_nobody_is_refused(tmp_path: Path, authority: Authority) -> None:
    files = write(tmp_path, forged(authority, x509.DNSName("eu-1.shop.redwire")), authority)
    with pytest.raises(TlsInvalid, match="the certificate names no node, this node is redwire://shop/node/"):
        read(files)


def test_the_key_of_another_certificate_is_refused(tmp_path: Path, authority: Authority) -> None:
    one, other = authority.issue_node("eu-1", HOSTS), authority.issue_node("eu-1", HOSTS)
    files = write(tmp_path, Issued(one.cert, other.key, one.not_after), authority)
    with pytest.raises(TlsInvalid, match=r"eu-1\.key: not the key of .*eu-1\.pem"):
        read(files)


def test_an_authority_that_has_expired_is_not_taken_for_another_one(tmp_path: Path) -> None:
    old = Authority.create("shop", now=NOW - timedelta(days=4_000))
    files = write(tmp_path, forged(old, URI, x509.DNSName("eu-1.shop.redwire")), old)
    with pytest.raises(TlsInvalid, match="hangs on an authority in .*ca.pem that is not valid now"):
        read(files)


@pytest.mark.parametrize("first", [0, 1])
def test_two_authorities_in_one_bundle_both_count(tmp_path: Path, first: int) -> None:
    pair = [Authority.create("shop"), Authority.create("shop")]
    for issuer in pair:
        files = write(tmp_path, issuer.issue_node("eu-1", HOSTS), pair[first], pair[1 - first])
        assert len(read(files).authorities) == 2


@pytest.mark.parametrize(("days", "said"), [(31, []), (29, ["expires in 29 days, on "]), (0, ["in 0 days"])])
def test_an_end_within_thirty_days_is_warned_of(
    tmp_path: Path, authority: Authority, days: int, said: list[str]
) -> None:
    found = read(write(tmp_path, authority.issue_node("eu-1", HOSTS), authority))
    warnings = found.ending(found.not_after_ms - days * DAY_MS - 1)
    assert len(warnings) == len(said)
    for warning, words in zip(warnings, said, strict=True):
        assert warning.what.startswith(f"{tmp_path}/eu-1.pem: the certificate ") and words in warning.what
        assert warning.mend == "issue a new one and reload the node"


def test_an_authority_that_ends_is_warned_of_by_name(tmp_path: Path, authority: Authority) -> None:
    old = Authority.create("shop", now=NOW - timedelta(days=3_640))
    gone = Authority.create("shop", now=NOW - timedelta(days=4_000))
    found = read(write(tmp_path, authority.issue_node("eu-1", HOSTS), authority, old, gone))
    ending, ended = found.ending(wall_ms())
    assert ending.what.startswith(f"{tmp_path}/ca.pem: the authority of shop expires in 9 days, on")
    assert "has expired on" in ended.what


def test_an_authority_that_is_none_of_ours_is_named_in_full(tmp_path: Path) -> None:
    key, ends = ec.generate_private_key(ec.SECP256R1()), datetime(2100, 1, 1, tzinfo=UTC)
    name = x509.Name.from_rfc4514_string("CN=Root 3,O=Example")
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "ca.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (found,) = authority_ends(client_context(tmp_path / "ca.pem", peer=False))
    assert found == AuthorityEnd("the authority Example, Root 3", int(ends.timestamp()) * 1000)


def test_what_ends_is_said_at_once_once_a_day_and_of_new_files_again(
    tmp_path: Path, authority: Authority
) -> None:
    found = read(write(tmp_path, authority.issue_node("eu-1", HOSTS), authority))
    reminder, end_ms = Reminder(), found.not_after_ms
    said = [
        (left, len(reminder.due(found, end_ms - left * DAY_MS))) for left in (40, 31, 29, 29, 28.5, 28, -1)
    ]
    assert said == [(40, 0), (31, 0), (29, 1), (29, 0), (28.5, 0), (28, 1), (-1, 1)]
    again = read(found.files)
    assert len(reminder.due(again, end_ms + DAY_MS)) == 1 and reminder.due(again, end_ms + DAY_MS) == []


def test_a_reload_takes_the_new_files_as_a_set(tmp_path: Path, authority: Authority) -> None:
    files = write(tmp_path, authority.issue_node("eu-1", HOSTS, days=10), authority)
    node = NodeCredentials(files, "shop", ME)
    server, client, sha256 = node.server_context(), node.client_context(), node.current.sha256
    assert node.current.days_left(wall_ms()) == 9
    write(tmp_path, authority.issue_node("eu-1", HOSTS, days=100), authority)
    node.reload()
    assert node.current.days_left(wall_ms()) == 99 and node.not_after_ms > wall_ms() + 99 * DAY_MS
    assert node.server_context() is not server and node.client_context() is not client
    assert node.current.sha256 != sha256


@pytest.mark.parametrize("spoilt", ["ca.pem", "eu-1.pem", "eu-1.key"])
def test_a_reload_of_files_that_do_not_fit_changes_nothing(
    tmp_path: Path, authority: Authority, spoilt: str
) -> None:
    files = write(tmp_path, authority.issue_node("eu-1", HOSTS), authority)
    node = NodeCredentials(files, "shop", ME)
    before = node.current
    other = tmp_path / "other"
    other.mkdir()
    stranger = Authority.create("shop")
    write(other, stranger.issue_node("eu-1", HOSTS), stranger)
    shutil.copy(other / spoilt, tmp_path / spoilt)
    with pytest.raises(TlsInvalid):
        node.reload()
    assert node.current is before


def test_a_moment_is_written_in_utc() -> None:
    assert day(1_700_000_000_000) == "2023-11-14 22:13 UTC"
    assert abs(wall_ms() - time.time() * 1000) < 60_000


def test_a_pipe_in_the_place_of_a_file_is_refused_and_holds_nobody_up(tmp_path: Path) -> None:
    pipe = tmp_path / "eu-1.pem"
    os.mkfifo(pipe)
    with pytest.raises(TlsInvalid, match="no regular file"):
        load(TlsConfig(ca=str(pipe), cert=str(pipe), key=str(pipe)), "shop", NodeId("eu-1"), 0)


def test_a_file_that_cannot_be_looked_at_is_refused_by_name(tmp_path: Path, authority: Authority) -> None:
    files = write(tmp_path, authority.issue_node("eu-1", HOSTS), authority)
    (tmp_path / "ca.pem").unlink()
    (tmp_path / "ca.pem").symlink_to("n" * 300)
    words = "ca.pem: cannot be looked at: File name too long; whoever runs this must be able to read it"
    with pytest.raises(TlsInvalid, match=words):
        read(files)


@pytest.mark.parametrize(
    ("named", "dialled", "fits"),
    [
        ("eu-1.example.net", "EU-1.example.net", True),
        ("eu-1.example.net", "eu-2.example.net", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("0:0:0:0:0:0:0:1", "::1", True),
        ("*.example.net", "eu-1.example.net", True),
        ("*.example.net", "eu-1.db.example.net", False),
        ("*.0.0.1", "10.0.0.1", False),
    ],
)
def test_a_certificate_names_a_host_as_clients_read_it(
    tmp_path: Path, authority: Authority, named: str, dialled: str, fits: bool
) -> None:
    found = read(write(tmp_path, authority.issue_node("eu-1", HOSTS), authority))
    assert replace(found, hosts=frozenset((named,))).names(dialled) is fits


def test_what_clients_dial_and_the_certificate_lacks_is_said_of_the_one_in_use(
    tmp_path: Path, authority: Authority
) -> None:
    files = write(tmp_path, authority.issue_node("eu-1", HOSTS), authority)
    assert NodeCredentials(files, "shop", ME).unnamed == [], "where clients dial it is not known"
    node = NodeCredentials(files, "shop", ME, "db.example.net")
    (warning,) = node.unnamed
    assert warning.what.startswith(
        f"{tmp_path}/eu-1.pem: the certificate does not name db.example.net, where "
    )
    write(tmp_path, authority.issue_node("eu-1", ["db.example.net"]), authority)
    node.reload()
    assert node.unnamed == []
