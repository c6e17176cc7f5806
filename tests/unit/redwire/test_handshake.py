from __future__ import annotations

import itertools
import json

import pytest

from redwire.errors import BodyInvalid, UriInvalid
from redwire.handshake import (
    Anonymous,
    AuthFail,
    AuthOk,
    Bearer,
    BearerBody,
    Certificate,
    Credentials,
    Hello,
    HelloAck,
    Identity,
    Message,
    Method,
    Password,
    Principal,
    PrincipalKind,
    Role,
    choose_method,
    choose_version,
    decode,
    decode_reason,
    decode_topology,
    encode,
    encode_topology,
    method_of,
    parse_identity_uri,
)

ACK = HelloAck(auth="bearer", features=1, server="redwire/0.1", topology="AQ==", version=1)
OK = AuthOk(features=1, role=Role.WRITE, session_id="s", topology="AQ==", v="sig", username="v")
TABLE: list[tuple[Message, bytes]] = [
    (
        Hello(versions=[1], auth_methods=["anonymous"], client_name="me"),
        b'{"versions":[1],"auth_methods":["anonymous"],"features":0,"client_name":"me"}',
    ),
    (ACK, b'{"auth":"bearer","features":1,"server":"redwire/0.1","topology":"AQ==","version":1}'),
    (
        HelloAck(auth="anonymous", features=0, server="x", version=1),
        b'{"auth":"anonymous","features":0,"server":"x","version":1}',
    ),
    (OK, b'{"features":1,"role":"write","session_id":"s","topology":"AQ==","v":"sig","username":"v"}'),
    (
        AuthOk(features=0, role=Role.READ, session_id="s", username=""),
        b'{"features":0,"role":"read","session_id":"s","username":""}',
    ),
    (BearerBody(token="t"), b'{"token":"t"}'),
]


@pytest.mark.parametrize(("message", "data"), TABLE)
def test_a_message_is_its_json_both_ways(message: Message, data: bytes) -> None:
    assert encode(message) == data
    assert decode(data, type(message)) == message  # type: ignore[type-var]


def test_what_drivers_send_is_understood_with_keys_of_their_own() -> None:
    hello = decode(b'{"versions":[1],"auth_methods":["bearer"],"features":0,"tls":{"a":1}}', Hello)
    assert hello == Hello(versions=[1], auth_methods=["bearer"])
    assert decode(b'{"versions":[],"auth_methods":[],"client_name":null}', Hello).versions == []


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (Hello, b""),
        (Hello, b"[]"),
        (Hello, b"{"),
        (Hello, b'{"versions":[1]}'),
        (Hello, b'{"versions":1,"auth_methods":[]}'),
        (Hello, b'{"versions":["1"],"auth_methods":[]}'),
        (Hello, b'{"versions":[1],"auth_methods":[1]}'),
        (Hello, b'{"versions":[1],"auth_methods":[],"features":-1}'),
        (Hello, b'{"versions":[1],"auth_methods":[],"features":4294967296}'),
        (Hello, b'{"versions":[1],"auth_methods":["\xff"]}'),
        (Hello, b'{"versions":' + str([1] * 65).encode() + b',"auth_methods":[]}'),
        (Hello, b'{"x":' + b"[" * 8000 + b'],"versions":[1],"auth_methods":[]}'),
        (HelloAck, b'{"features":0,"server":"x","version":1}'),
        (AuthOk, b'{"features":0,"role":"read","session_id":"","username":"u"}'),
        (AuthOk, b'{"features":0,"role":"god","session_id":"s","username":"u"}'),
        (BearerBody, b'{"token":""}'),
        (BearerBody, b'{"token":"' + b"t" * 4097 + b'"}'),
        (BearerBody, b'{"token":null}'),
    ],
)
def test_a_body_of_the_wrong_shape_is_refused(message: type[Hello], data: bytes) -> None:
    with pytest.raises(BodyInvalid, match=f"^{message.__name__} body: "):
        decode(data, message)


def test_a_refused_bearer_body_does_not_repeat_its_token() -> None:
    with pytest.raises(BodyInvalid) as caught:
        decode(b'{"token":["s3cret"]}', BearerBody)
    assert "s3cret" not in str(caught.value)


def test_no_earlier_text_of_an_ack_can_be_taken_for_the_auth_key() -> None:
    assert encode(ACK).index(b'"auth"') == 1
    assert list(json.loads(encode(ACK))) == sorted(json.loads(encode(ACK)))


@pytest.mark.parametrize("name", ["v", "session_id", "features", "role", "topology"])
def test_no_user_name_can_be_taken_for_a_key_of_auth_ok(name: str) -> None:
    ok = AuthOk(features=1, role=Role.READ, session_id="s", topology="AQ==", v="x", username=name)
    data = encode(ok)
    assert data.index(f'"{name}"'.encode()) == data.index(f'"{name}":'.encode())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (encode(AuthFail("no")), "no"),
        (b"plain words", "plain words"),
        (b'{"other":1}', '{"other":1}'),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"", "no reason given"),
        (b"x" * 5000, "x" * 1024),
    ],
)
def test_a_refusal_gives_a_reason_whatever_its_form(body: bytes, reason: str) -> None:
    assert decode_reason(body) == reason


@pytest.mark.parametrize(("blob", "text"), [(None, None), (b"", ""), (b"\x01\xfb\xff", "Afv/")])
def test_a_topology_travels_as_standard_base64(blob: bytes | None, text: str | None) -> None:
    assert encode_topology(blob) == text
    assert decode_topology(text) == blob


@pytest.mark.parametrize("text", ["***", "A", "Afv_", "é"])
def test_a_topology_that_is_not_base64_is_none(text: str) -> None:
    assert decode_topology(text) is None


@pytest.mark.parametrize(
    ("offered", "chosen"), [([], None), ([1], 1), ([2, 1], 1), ([0], None), ([-1, 2], None), ([3, 1, 2], 1)]
)
def test_the_highest_common_version_is_chosen(offered: list[int], chosen: int | None) -> None:
    assert choose_version(offered) == chosen


def test_methods_are_chosen_in_the_servers_order() -> None:
    order = ["certificate", "scram-sha-256", "anonymous", "bearer"]
    for size in range(5):
        for offered in itertools.permutations(order, size):
            for available in itertools.combinations(order, 2):
                common = [name for name in order if name in offered and name in available]
                assert choose_method(offered, available) == (common[0] if common else None)
    assert choose_method(["oauth-jwt"], ["oauth-jwt"]) is None


@pytest.mark.parametrize(
    ("credentials", "method"),
    [
        (Anonymous(), Method.ANONYMOUS),
        (Bearer("s3cret"), Method.BEARER),
        (Password("ann", "s3cret"), Method.SCRAM),
        (Certificate(), Method.CERTIFICATE),
    ],
)
def test_credentials_have_one_method_and_hide_their_secret(credentials: Credentials, method: Method) -> None:
    assert method_of(credentials) is method
    assert "s3cret" not in repr(credentials)


@pytest.mark.parametrize(
    ("role", "may"),
    [
        (Role.READ, {Role.READ}),
        (Role.WRITE, {Role.READ, Role.WRITE}),
        (Role.ADMIN, {Role.READ, Role.WRITE, Role.ADMIN}),
        (Role.REPLICATOR, {Role.READ, Role.REPLICATOR}),
    ],
)
def test_a_role_may_what_lies_below_it(role: Role, may: set[Role]) -> None:
    principal = Principal(PrincipalKind.USER, "ann", role, topology_read=False)
    assert {other for other in Role if principal.may(other)} == may


@pytest.mark.parametrize(
    "identity",
    [
        Identity("shop", PrincipalKind.NODE, "eu-1"),
        Identity("a", PrincipalKind.NODE, "0"),
        Identity("shop", PrincipalKind.USER, "Ann.B_c-1"),
        Identity("x" * 63, PrincipalKind.USER, "u" * 64),
    ],
)
def test_an_identity_is_its_uri_both_ways(identity: Identity) -> None:
    assert parse_identity_uri(str(identity)) == identity


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "redwire://",
        "redwire://shop",
        "redwire://shop/node",
        "redwire://shop/node/",
        "redwire://shop/node/eu-1/",
        "redwire://shop/node/eu-1/x",
        "redwire://shop/anonymous/eu-1",
        "redwire://shop/role/eu-1",
        "redwire://shop/node/EU-1",
        "redwire://shop/node/-eu",
        "redwire://shop/node/eu-",
        "redwire://shop/node/eu.1",
        "redwire://shop/node/eu-1\n",
        "redwire://shop/node/" + "n" * 64,
        "redwire://Shop/user/ann",
        "redwire:///user/ann",
        "redwire://shop/user/a b",
        "redwire://shop/user/ann\n",
        "redwire://shop/user/é",
        "redwire://shop/user/" + "u" * 65,
        "redwire://shop/user/ann?x=1",
        "REDWIRE://shop/user/ann",
        "https://shop/user/ann",
        "shop/user/ann",
    ],
)
def test_a_uri_that_names_nobody_is_refused(uri: str) -> None:
    with pytest.raises(UriInvalid, match="write redwire://<cluster>/node/<id>"):
        parse_identity_uri(uri)
