from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scramp

from redwire.errors import AuthenticationFailed
from redwire.scram import (
    ITERATIONS,
    ITERATIONS_MIN,
    Challenge,
    ClientScram,
    ServerScram,
    Verifier,
    fake_verifier,
    make_verifier,
    salted_password,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "redwire-scram.json"
EXCHANGES: list[dict[str, Any]] = json.loads(GOLDEN.read_text())["exchanges"]
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
PENCIL = make_verifier("pencil", SALT, 4096)
WRONG = "wrong user or password"


def always(verifier: Verifier) -> Callable[[str], Verifier]:
    return lambda user: verifier


def run_client(exchange: dict[str, Any]) -> None:
    """One exchange with the recorded server; the client's own messages must be the recorded ones."""
    user, password = exchange["credentials"]["username"], exchange["credentials"]["password"]
    client = ClientScram(user, exchange["client_nonce"])
    challenge: Challenge | None = None
    for message in exchange["messages"]:
        match message["kind"]:
            case "AuthResponse(client-first)":
                assert client.first().decode() == message["payload"]
            case "AuthRequest":
                challenge = client.challenge(message["payload"].encode())
            case "AuthResponse(client-final)":
                assert challenge is not None
                assert client.final(salted_password(password, challenge)).decode() == message["payload"]
            case "AuthOk":
                client.verify(json.loads(message["payload"])["v"])


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda exchange: exchange["name"])
def test_the_recorded_exchanges_end_as_recorded(exchange: dict[str, Any]) -> None:
    if exchange["expected"].get("authenticated"):
        run_client(exchange)
    else:
        with pytest.raises(AuthenticationFailed) as caught:
            run_client(exchange)
        assert caught.value.message == exchange["expected"]["error"]


@pytest.mark.parametrize("wrapped", [False, True], ids=["raw", "json"])
def test_the_server_plays_its_side_of_the_recorded_success(wrapped: bool) -> None:
    messages = [message["payload"] for message in EXCHANGES[0]["messages"]]
    asked = []

    def lookup(user: str) -> Verifier:
        asked.append(user)
        return PENCIL

    def wrap(key: str, text: str) -> bytes:
        return json.dumps({key: text}).encode() if wrapped else text.encode()

    server = ServerScram(SERVER_NONCE)
    assert server.challenge(wrap("client_first", messages[0]), lookup).decode() == messages[1]
    assert server.finish(wrap("client_final", messages[2])) == json.loads(messages[3])["v"]
    assert asked == ["user"]


def test_an_independent_client_is_let_in_by_our_server() -> None:
    client = scramp.ScramClient(["SCRAM-SHA-256"], "ann", "pencil", c_nonce="abc")
    server = ServerScram("xyz")
    verifier = make_verifier("pencil", SALT)
    client.set_server_first(server.challenge(client.get_client_first().encode(), always(verifier)).decode())
    client.set_server_final("v=" + server.finish(client.get_client_final().encode()))


def test_our_client_is_let_in_by_an_independent_server() -> None:
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    known = mechanism.make_auth_info("pencil", iteration_count=5000, salt=SALT)
    peer = mechanism.make_server(lambda user: known, s_nonce="xyz")
    client = ClientScram("ann", "abc")
    peer.set_client_first(client.first().decode())
    salted = salted_password("pencil", client.challenge(peer.get_server_first().encode()))
    peer.set_client_final(client.final(salted).decode())
    client.verify(peer.get_server_final().removeprefix("v="))


def test_a_verifier_is_what_an_independent_library_makes() -> None:
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    _, stored_key, server_key, iterations = mechanism.make_auth_info("pencil", ITERATIONS, SALT)
    assert make_verifier("pencil", SALT) == Verifier(SALT, iterations, stored_key, server_key)


def test_a_verifier_does_not_show_its_keys() -> None:
    assert "key" not in repr(PENCIL)


def answer(password: str, verifier: Verifier, user: str = "ann") -> str:
    server, client = ServerScram("xyz"), ClientScram(user, "abc")
    challenge = client.challenge(server.challenge(client.first(), always(verifier)))
    return server.finish(client.final(salted_password(password, challenge)))


def test_any_utf_8_password_works_as_its_bytes() -> None:
    assert answer("påß wörd\u00a0", make_verifier("påß wörd\u00a0", SALT, 4096))


def test_an_unknown_user_fails_like_a_wrong_password() -> None:
    fake = fake_verifier(b"secret", "nobody")
    for verifier in (PENCIL, fake):
        with pytest.raises(AuthenticationFailed) as caught:
            answer("pen", verifier)
        assert caught.value.message == WRONG


def test_an_unknown_user_gets_the_same_salt_every_time_and_the_usual_count() -> None:
    fake = fake_verifier(b"secret", "nobody")
    assert fake == fake_verifier(b"secret", "nobody")
    assert (len(fake.salt), fake.iterations) == (16, ITERATIONS)
    others = [fake_verifier(b"secret", "other"), fake_verifier(b"public", "nobody")]
    assert len({verifier.salt for verifier in (fake, *others)}) == 3
    assert len({fake.stored_key, fake.server_key, fake.salt}) == 3


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n,,",
        b"n,,n=user",
        b"n,,r=abc,n=user",
        b"n,,n=user,r=abc,x=1",
        b"n,,m=ext,n=user,r=abc",
        b"n,,n=user,r=abc,r=abd",
        b"n,,n=user,r=",
        b"n,,n=,r=abc",
        b"n,,n=a b,r=abc",
        b"n,,n=a=2Cb,r=abc",
        b"n,,n=" + b"u" * 65 + b",r=abc",
        b"n,,n=user,r=" + b"r" * 257,
        b"n,,n=user,r=a\x7f",
        b"n,,n=user,r=a b",
        b"n,,n=us\xc3\xa9r,r=abc",
        b"n,,n=us\xffr,r=abc",
        b"y,,n=user,r=abc",
        b"p=tls-unique,,n=user,r=abc",
        b"n,a=admin,n=user,r=abc",
        b"{",
        b"{}",
        b'{"client_first":1}',
        b'{"client_final":"n,,n=user,r=abc"}',
        b'{"client_first":"n,,n=\\ud800,r=abc"}',
        b'{"a":' * 3000,
    ],
)
def test_a_malformed_client_first_is_refused_before_anybody_is_looked_up(message: bytes) -> None:
    def never(user: str) -> Verifier:
        raise AssertionError(user)

    with pytest.raises(AuthenticationFailed, match="^malformed"):
        ServerScram("xyz").challenge(message, never)


def challenged() -> tuple[ServerScram, str, str]:
    """A server that waits for client-final, the combined nonce, and the right proof."""
    server, client = ServerScram("xyz"), ClientScram("user", "abc")
    challenge = client.challenge(server.challenge(client.first(), always(PENCIL)))
    final = client.final(salted_password("pencil", challenge)).decode()
    return server, "abcxyz", final.rpartition(",p=")[2]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "malformed client-final message"),
        ("c=biws,r={nonce}", "malformed client-final message"),
        ("c=biws,p={proof},r={nonce}", "malformed client-final message"),
        ("c=biws,r={nonce},x=1,p={proof}", "malformed client-final message"),
        ("c=eSws,r={nonce},p={proof}", "channel binding must be biws"),
        ("c=,r={nonce},p={proof}", "channel binding must be biws"),
        ("c=biws,r=abcold,p={proof}", "nonce mismatch"),
        ("c=biws,r={nonce}x,p={proof}", "nonce mismatch"),
        ("c=biws,r=,p={proof}", "nonce mismatch"),
        ("c=biws,r={nonce},p=", WRONG),
        ("c=biws,r={nonce},p=***", WRONG),
        ("c=biws,r={nonce},p=AAAA", WRONG),
        ("c=biws,r={nonce},p=" + base64.b64encode(bytes(32)).decode(), WRONG),
        ("c=biws,r={nonce},p=" + base64.b64encode(bytes(33)).decode(), WRONG),
    ],
)
def test_a_client_final_that_proves_nothing_is_refused(message: str, reason: str) -> None:
    server, nonce, proof = challenged()
    with pytest.raises(AuthenticationFailed) as caught:
        server.finish(message.format(nonce=nonce, proof=proof).encode())
    assert caught.value.message == reason


def test_a_replayed_client_final_is_refused_by_the_next_exchange() -> None:
    server, nonce, proof = challenged()
    final = f"c=biws,r={nonce},p={proof}".encode()
    assert server.finish(final)
    again = ServerScram("uvw")
    again.challenge(ClientScram("user", "abc").first(), always(PENCIL))
    with pytest.raises(AuthenticationFailed, match="nonce mismatch"):
        again.finish(final)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "malformed server-first message"),
        ("r=abcx,s=AAAA", "malformed server-first message"),
        ("s=AAAA,r=abcx,i=4096", "malformed server-first message"),
        ("r=abcx,s=AAAA,i=4096,i=4096", "malformed server-first message"),
        ("e=other-error", "malformed server-first message"),
        ("r=abc,s=AAAA,i=4096", "server nonce does not extend client nonce"),
        ("r=ab,s=AAAA,i=4096", "server nonce does not extend client nonce"),
        ("r=abc x,s=AAAA,i=4096", "server nonce does not extend client nonce"),
        ("r=abcx,s=AAAA,i=4095", "SCRAM iteration count 4095 is below minimum 4096"),
        ("r=abcx,s=AAAA,i=", "SCRAM iteration count 0 is below minimum 4096"),
        ("r=abcx,s=AAAA,i=-9999", "SCRAM iteration count 0 is below minimum 4096"),
        ("r=abcx,s=AAAA,i=9x", "SCRAM iteration count 0 is below minimum 4096"),
        ("r=abcx,s=AAAA,i=" + "9" * 5000, "SCRAM iteration count 0 is below minimum 4096"),
        ("r=abcx,s=AAAA,i=600001", "SCRAM iteration count 600001 is above maximum 600000"),
        ("r=abcx,s=,i=4096", "server salt is not valid base64"),
        ("r=abcx,s=AAA,i=4096", "server salt is not valid base64"),
        ("r=abcx,s=é,i=4096", "server salt is not valid base64"),
    ],
)
def test_a_client_answers_no_bad_challenge(message: str, reason: str) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        ClientScram("user", "abc").challenge(message.encode())
    assert caught.value.message == reason


def test_iteration_counts_at_the_bounds_and_unknown_extensions_are_taken() -> None:
    for iterations in (ITERATIONS_MIN, 600_000):
        message = f"r=abcx,s=AAAA,i={iterations},x=ext".encode()
        assert ClientScram("user", "abc").challenge(message) == Challenge(bytes(3), iterations)


@pytest.mark.parametrize(
    ("v", "reason"),
    [
        (None, "SCRAM server signature is missing"),
        ("", "SCRAM server signature did not verify"),
        ("***", "SCRAM server signature did not verify"),
        ("é", "SCRAM server signature did not verify"),
    ],
)
def test_a_server_that_proves_nothing_is_not_believed(v: str | None, reason: str) -> None:
    client = ClientScram("user", "abc")
    client.final(salted_password("pencil", client.challenge(b"r=abcx,s=AAAA,i=4096")))
    with pytest.raises(AuthenticationFailed) as caught:
        client.verify(v)
    assert caught.value.message == reason


@pytest.mark.parametrize("user", ["", "a,b", "a=b", "é", "a b", "u" * 65, "ann\n"])
def test_a_client_does_not_try_an_impossible_user_name(user: str) -> None:
    with pytest.raises(AuthenticationFailed, match="user name"):
        ClientScram(user, "abc")
