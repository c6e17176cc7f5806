"""Certificates: what they say, who trusts them, and what `redwire certs` does with files that stand there."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from redwire.errors import RedwireError
from redwire.tls import certificate_expiry_ms, certificate_identities, client_context, server_context
from tools.authority import Authority, Issued
from tools.cli.main import VERBS, redwire
from tools.errors import AuthorityInvalid, FileStands, NameInvalid


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("shop")


def names(issued: Issued) -> x509.SubjectAlternativeName:
    certificate = x509.load_pem_x509_certificate(issued.cert)
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def uses(issued: Issued) -> set[x509.ObjectIdentifier]:
    certificate = x509.load_pem_x509_certificate(issued.cert)
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def handshake(folder: Path, ca: Path, server: str, client: str | None, hostname: str) -> list[ssl.SSLObject]:
    """A TLS handshake in memory; (client side, server side). Raises `ssl.SSLError` where a side refuses."""
    pair = (None, None) if client is None else (folder / f"{client}.pem", folder / f"{client}.key")
    near_in, near_out, far_in, far_out = (ssl.MemoryBIO() for _ in range(4))
    near = client_context(ca, *pair, peer=client is not None).wrap_bio(
        near_in, near_out, server_hostname=hostname
    )
    far_context = server_context(ca, folder / f"{server}.pem", folder / f"{server}.key")
    far = far_context.wrap_bio(far_in, far_out, server_side=True)
    for _ in range(4):
        for side, output, other_input in ((near, near_out, far_in), (far, far_out, near_in)):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
            other_input.write(output.read())
    return [near, far]


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    authority.save(tmp_path)
    authority.issue_node("eu-1", ["eu-1.example.net", "127.0.0.1", "::1"]).save(tmp_path, "eu-1")
    authority.issue_node("us-1").save(tmp_path, "us-1")
    authority.issue_user("ops").save(tmp_path, "ops")
    return tmp_path


def test_a_node_names_itself_by_uri_by_dns_and_by_its_hosts(authority: Authority) -> None:
    issued = authority.issue_node("eu-1", ["eu-1.example.net", "127.0.0.1", "::1", "127.0.0.1"])
    found = names(issued)
    assert found.get_values_for_type(x509.UniformResourceIdentifier) == ["redwire://shop/node/eu-1"]
    assert found.get_values_for_type(x509.DNSName) == ["eu-1.shop.redwire", "eu-1.example.net"]
    addresses = found.get_values_for_type(x509.IPAddress)
    assert addresses == [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    assert uses(issued) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def test_a_user_names_itself_by_uri_and_cannot_serve(authority: Authority) -> None:
    issued = authority.issue_user("ops.Team_1")
    assert [str(name.value) for name in names(issued)] == ["redwire://shop/user/ops.Team_1"]
    assert uses(issued) == {ExtendedKeyUsageOID.CLIENT_AUTH}


def test_a_certificate_begins_five_minutes_ago_and_ends_in_a_year(authority: Authority) -> None:
    now = datetime(2030, 1, 1, 12, tzinfo=UTC)
    issued = authority.issue_node("eu-1", now=now)
    certificate = x509.load_pem_x509_certificate(issued.cert)
    assert certificate.not_valid_before_utc == now - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == issued.not_after == now + timedelta(days=365)


def test_no_certificate_outlives_its_authority(authority: Authority) -> None:
    late = authority.certificate.not_valid_after_utc - timedelta(days=1)
    assert authority.issue_node("eu-1", now=late).not_after == authority.certificate.not_valid_after_utc


def test_serial_numbers_and_keys_are_never_used_twice(authority: Authority) -> None:
    first, second = (x509.load_pem_x509_certificate(authority.issue_user("ops").cert) for _ in range(2))
    assert first.serial_number != second.serial_number
    assert first.public_key() != second.public_key()


def test_nodes_trust_each_other_over_tls_1_3_by_their_cluster_names(folder: Path) -> None:
    near, far = handshake(folder, folder / "ca.pem", "us-1", "eu-1", "us-1.shop.redwire")
    assert near.version() == "TLSv1.3"
    assert str(certificate_identities(near)) == "redwire://shop/node/us-1"
    assert str(certificate_identities(far)) == "redwire://shop/node/eu-1"


@pytest.mark.parametrize("host", ["eu-1.example.net", "127.0.0.1", "::1"])
def test_clients_reach_a_node_by_each_of_its_hosts(folder: Path, host: str) -> None:
    near, _ = handshake(folder, folder / "ca.pem", "eu-1", None, host)
    assert near.version() == "TLSv1.3"


def test_a_host_that_the_certificate_does_not_name_is_refused(folder: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(folder, folder / "ca.pem", "eu-1", None, "us-1.shop.redwire")


def test_strict_verification_accepts_what_we_issue(folder: Path) -> None:
    context = client_context(folder / "ca.pem", peer=False)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    server = server_context(folder / "ca.pem", folder / "eu-1.pem", folder / "eu-1.key")
    near_in, near_out, far_in, far_out = (ssl.MemoryBIO() for _ in range(4))
    near = context.wrap_bio(near_in, near_out, server_hostname="127.0.0.1")
    far = server.wrap_bio(far_in, far_out, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        near.do_handshake()
    far_in.write(near_out.read())
    with pytest.raises(ssl.SSLWantReadError):
        far.do_handshake()
    near_in.write(far_out.read())
    near.do_handshake()


def test_another_authority_of_the_same_cluster_is_not_trusted(folder: Path) -> None:
    other = Authority.create("shop")
    (folder / "other.pem").write_bytes(other.pem)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(folder, folder / "other.pem", "eu-1", None, "127.0.0.1")


def test_an_expired_certificate_can_be_made_and_is_refused(folder: Path, authority: Authority) -> None:
    past = datetime.now(UTC) - timedelta(days=10)
    issued = authority.issue_node("ap-1", ["127.0.0.1"], days=1, now=past)
    cert, _ = issued.save(folder, "ap-1")
    assert certificate_expiry_ms(cert) == int(issued.not_after.timestamp()) * 1000
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        handshake(folder, folder / "ca.pem", "ap-1", None, "127.0.0.1")


def test_an_authority_reads_back_and_goes_on_issuing(folder: Path) -> None:
    again = Authority.load(folder)
    assert again.cluster == "shop"
    again.issue_node("ap-1").save(folder, "ap-1")
    handshake(folder, folder / "ca.pem", "ap-1", "eu-1", "ap-1.shop.redwire")


def test_keys_are_for_their_owner_only(folder: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.key")}
    assert modes == {"ca.key": 0o600, "eu-1.key": 0o600, "us-1.key": 0o600, "ops.key": 0o600}


@pytest.mark.parametrize("standing", ["eu-1.pem", "eu-1.key"])
def test_a_file_that_stands_is_not_replaced_and_nothing_is_written(
    tmp_path: Path, authority: Authority, standing: str
) -> None:
    (tmp_path / standing).write_text("mine")
    with pytest.raises(FileStands, match=standing):
        authority.issue_node("eu-1").save(tmp_path, "eu-1")
    assert [path.name for path in tmp_path.iterdir()] == [standing]
    assert (tmp_path / standing).read_text() == "mine"


@pytest.mark.parametrize("name", ["", "Shop", "a.b", "-a", "a" * 64, "a/b", "shop\n"])
def test_cluster_and_node_names_are_dns_labels(authority: Authority, name: str) -> None:
    with pytest.raises(NameInvalid, match="is no cluster name"):
        Authority.create(name)
    with pytest.raises(NameInvalid, match="is no node name"):
        authority.issue_node(name)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "a" * 65])
def test_user_names_keep_to_their_letters(authority: Authority, name: str) -> None:
    with pytest.raises(NameInvalid, match="is no user name"):
        authority.issue_user(name)


@pytest.mark.parametrize("host", ["", "a b", "h:5050", "a..b", "*", "ä.example", "x" * 64, "[::1]"])
def test_hosts_are_names_or_addresses(authority: Authority, host: str) -> None:
    with pytest.raises(NameInvalid, match="is no host"):
        authority.issue_node("eu-1", [host])


def test_a_damaged_authority_says_which_file_is_wrong(folder: Path) -> None:
    key, cert = folder / "ca.key", folder / "ca.pem"
    good_key, good_cert = key.read_bytes(), cert.read_bytes()
    other = Authority.create("store")
    private = ec.generate_private_key(ec.SECP256R1())
    sealed = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    edwards = ed25519.Ed25519PrivateKey.generate()
    unsuited = edwards.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    leaf = other.issue_user("ops")
    for cert_data, key_data, message in (
        (b"", good_key, r"ca\.pem is no certificate"),
        (good_cert, b"", r"ca\.key is no private key"),
        (good_cert, sealed, r"ca\.key is no private key without a password"),
        (good_cert, unsuited, r"ca\.key is no ECDSA key"),
        (other.pem, good_key, r"ca\.key is not the key of .*ca\.pem"),
        (leaf.cert, leaf.key, r"ca\.pem names no cluster"),
    ):
        cert.write_bytes(cert_data)
        key.write_bytes(key_data)
        with pytest.raises(AuthorityInvalid, match=message):
            Authority.load(folder)
    key.unlink()
    with pytest.raises(AuthorityInvalid, match=r"ca\.key cannot be read: No such file.*redwire certs init"):
        Authority.load(folder)
    os.mkfifo(key)
    with pytest.raises(AuthorityInvalid, match=r"ca\.key is no private key"):
        Authority.load(folder)


def test_an_authority_whose_key_others_can_read_signs_nothing(folder: Path) -> None:
    (folder / "ca.key").chmod(0o640)
    with pytest.raises(
        AuthorityInvalid, match=r"ca\.key: others .* this key \(mode 0640\); chmod 600 .*ca\.key"
    ):
        Authority.load(folder)
    (folder / "ca.key").chmod(0o600)
    assert Authority.load(folder).cluster == "shop"


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(redwire, ["certs", *map(str, arguments)])


def test_the_command_makes_an_authority_and_issues_from_it(tmp_path: Path) -> None:
    out = tmp_path / "certs"
    made = invoke("init", "--cluster", "shop", "--out", out)
    assert made.exit_code == 0
    assert f"wrote {out / 'ca.pem'}" in made.output
    issued = invoke("issue", "node", "eu-1", "--cluster", "shop", "--host", "127.0.0.1", "--authority", out)
    assert issued.exit_code == 0
    assert "node eu-1 of shop, valid until" in issued.output
    assert invoke("issue", "user", "ops", "--authority", out, "--out", tmp_path / "ops").exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["ca.key", "ca.pem", "eu-1.key", "eu-1.pem"]
    assert sorted(path.name for path in (tmp_path / "ops").iterdir()) == ["ops.key", "ops.pem"]


def test_a_node_that_no_client_will_accept_is_warned_of(tmp_path: Path) -> None:
    invoke("init", "--cluster", "shop", "--out", tmp_path)
    told = invoke("issue", "node", "eu-2", "--authority", tmp_path)
    assert told.exit_code == 0 and "warning: the certificate of eu-2 names no host" in told.stderr
    quiet = invoke("issue", "node", "eu-3", "--authority", tmp_path, "--json")
    assert json.loads(quiet.stdout)["warning"].startswith("the certificate of eu-3 names no host")
    assert quiet.stderr == ""
    assert not invoke("issue", "node", "eu-1", "--host", "127.0.0.1", "--authority", tmp_path).stderr
    assert not invoke("issue", "user", "ops", "--authority", tmp_path).stderr


def test_every_command_prints_json_when_asked(tmp_path: Path) -> None:
    made = json.loads(invoke("init", "--cluster", "shop", "--out", tmp_path, "--json").output)
    assert made.keys() == {"cluster", "cert", "key", "ends_at_ms"}
    for kind, name in (("node", "eu-1"), ("user", "ops")):
        issued = json.loads(
            invoke("issue", kind, name, "--authority", tmp_path, "--days", 7, "--json").stdout
        )
        assert issued[kind] == name
        assert issued["cert"] == str(tmp_path / f"{name}.pem")
        ends = datetime.fromtimestamp(issued["ends_at_ms"] / 1000, UTC)
        assert timedelta(days=6) < ends - datetime.now(UTC) < timedelta(days=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("init", "--cluster", "shop"), "exists already; move it away"),
        (("issue", "node", "eu-1", "--cluster", "store"), "is that of shop, not of store"),
        (("issue", "node", "EU"), "'EU' is no node name"),
        (("issue", "node", "eu-1", "--host", "h:1"), "'h:1' is no host"),
    ],
)
def test_an_error_says_what_is_wrong_and_what_to_do(
    tmp_path: Path, authority: Authority, arguments: tuple[str, ...], message: str
) -> None:
    authority.save(tmp_path)
    folder_option = "--out" if arguments[0] == "init" else "--authority"
    result = invoke(*arguments, folder_option, tmp_path)
    assert isinstance(result.exception, RedwireError)
    assert message in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.key", "ca.pem"]


def test_every_verb_is_a_command_and_has_json_somewhere() -> None:
    listed = CliRunner().invoke(redwire, ["--help"])
    assert listed.exit_code == 0
    assert all(verb in listed.output for verb in VERBS)
    assert CliRunner().invoke(redwire, ["crets"]).exit_code == 2
