"""One connection without its socket: the handshake, then frames, for the server's side and for the client's.

Bytes go in by `receive_data` and `receive_eof` and come out of `data_to_send`; nothing here waits or knows
the time. Each side is a table from (state, kind of frame) to a step; a pair that is not in it breaks the
protocol. After authentication every frame is passed up as it came: what it means is for the session.

A server says why it closes: AuthFail for a bad handshake, one Error frame for broken framing, a TLS alert to
whoever begins with TLS, and nothing to others who do not begin like a client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import ClassVar, Protocol

from redwire.errors import AuthenticationFailed, Code, FrameInvalid, ProtocolError, Refused
from redwire.frame import (
    FRAME_BYTES_MAX,
    FRAME_BYTES_UNAUTHENTICATED,
    Frame,
    FrameDecoder,
    FrameEncoder,
    Kind,
    kind_name,
)
from redwire.handshake import (
    FEATURE_PARAMS,
    NOBODY,
    PREFACE,
    TLS_HANDSHAKE,
    VERSION,
    WRONG_TRANSPORT,
    Attempt,
    AuthFail,
    AuthOk,
    Bearer,
    BearerBody,
    Credentials,
    Established,
    Hello,
    HelloAck,
    Method,
    Password,
    Principal,
    choose_method,
    choose_version,
    decode,
    decode_topology,
    encode,
    encode_topology,
    method_of,
    refusal,
    wants_users,
)
from redwire.scram import Challenge, ClientScram, ServerScram, Verifier, fake_verifier


class ConnectionState(Enum):
    """Where a connection is. A server passes PREFACE to OPEN, a client HELLO to OPEN; CLOSED is for good."""

    PREFACE = auto()
    HELLO = auto()
    CREDENTIALS = auto()  # of the methods that need one message
    SCRAM_FIRST = auto()
    SALTING = auto()  # client only: the shell owes the salted password
    SCRAM_FINAL = auto()
    OPEN = auto()
    CLOSED = auto()


class Authenticator(Protocol):
    """What the server's side asks about whoever connects. All answers come from memory, at once."""

    def unready(self) -> str:
        """Why no user can be known here yet, and what to do instead; "" once they can be."""

    def methods(self, certificate: Principal | None) -> Sequence[str]:
        """The methods open to a client whose TLS certificate names this principal, or nobody."""

    def anonymous(self) -> Principal | None:
        """Who an anonymous client is; None where there are none."""

    def bearer(self, token: str) -> Principal | None:
        """Whose token this is; None for a token that is not valid."""

    def verifier(self, user: str) -> tuple[Verifier, Principal] | None:
        """How this user's password is checked, and who it then is; None for an unknown user."""

    def fake_secret(self) -> bytes:
        """The cluster's secret behind the challenges of users who do not exist."""

    def topology(self, principal: Principal | None) -> bytes:
        """The topology blob for this principal; for none, or without the capability, the primary only."""


class ServerConnection(FrameEncoder):
    """The server's side. `principal` is None until the client is authenticated, and then does not change;
    `attempt` is how it tries, or tried; `decoder` cuts the frames, and its `limits` are for the session.

    Once `closing` is set the caller sends what there is to send and closes.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        nonce: str,
        session_id: str,
        server: str,
        certificate: Principal | None = None,
    ) -> None:
        """`nonce` and `session_id` are fresh and unguessable; `certificate` is who TLS proved, if anybody."""
        super().__init__()
        assert session_id
        self.state = ConnectionState.PREFACE
        self.principal: Principal | None = None
        self.session_id = session_id
        self.attempt = Attempt()
        self.decoder = FrameDecoder(FRAME_BYTES_UNAUTHENTICATED, allow_compressed=False, expand=False)
        self._authenticator = authenticator
        self._server = server
        self._certificate = certificate
        self._preface = b""
        self._scram = ServerScram(nonce)
        self._scram_principal: Principal | None = None

    @property
    def closing(self) -> bool:
        """Whether the connection is to be closed once the queued data is sent."""
        return self.state is ConnectionState.CLOSED

    def receive_data(self, data: bytes) -> list[Frame]:
        """The frames for the session, not `expanded` yet; none before authentication, and none once closing.
        Never raises.
        """
        try:
            if self.state is ConnectionState.OPEN:
                return self.decoder.receive_data(data)
            if self.state is not ConnectionState.CLOSED:
                self._shake_hands(data)
        except FrameInvalid as error:
            self.send(Kind.ERROR, f"PROTOCOL: {error.message}".encode())
            self.close()
        return []

    def close(self) -> None:
        """Receive nothing more; what is queued is still to be sent."""
        self.state = ConnectionState.CLOSED

    def refuse(self, reason: str, correlation: int = 0) -> None:
        """End a handshake with AuthFail; also for what only the shell sees, such as its deadline."""
        assert self.state is not ConnectionState.OPEN
        self.attempt.refusal = reason
        if self.state is not ConnectionState.PREFACE:
            self.send(Kind.AUTH_FAIL, encode(AuthFail(reason)), correlation)
        self.close()

    def _shake_hands(self, data: bytes) -> None:
        if self.state is ConnectionState.PREFACE:
            taken = len(PREFACE) - len(self._preface)
            self._preface, data = self._preface + data[:taken], data[taken:]
            magic, minor = self._preface[:1], self._preface[1:]
            if magic != PREFACE[:1] or minor > PREFACE[1:]:
                self._chunks += [WRONG_TRANSPORT] * (magic == TLS_HANDSHAKE)
                self.close()
                return
            if not minor:
                return
            self.state = ConnectionState.HELLO
        frames = self.decoder.receive_data(data)
        if not frames:
            return
        frame = frames[0]
        step = self._STEPS.get((self.state, frame.kind))
        try:
            if step is None:
                raise AuthenticationFailed(f"{kind_name(frame.kind)} frame in state {self.state.name}")
            if len(frames) > 1 or self.decoder.held_bytes:
                raise AuthenticationFailed("more than one frame before authentication")
            step(self, frame)
        except (AuthenticationFailed, ProtocolError, Refused) as error:
            self.refuse(error.message, frame.correlation)

    def _on_hello(self, frame: Frame) -> None:
        hello = decode(frame.payload, Hello)
        if choose_version(hello.versions) is None:
            raise AuthenticationFailed(f"no common version: {hello.versions}, we speak {VERSION}")
        available = self._authenticator.methods(self._certificate)
        self.attempt.method = method = choose_method(hello.auth_methods, available)
        if wants_users(hello.auth_methods, method) and (unready := self._authenticator.unready()):
            raise Refused(Code.NOT_READY, unready)
        if method is None:
            raise AuthenticationFailed(f"no common authentication method: we accept {', '.join(available)}")
        topology = encode_topology(self._authenticator.topology(self._certificate))
        ack = HelloAck(
            auth=method, features=FEATURE_PARAMS, server=self._server, topology=topology, version=VERSION
        )
        self.send(Kind.HELLO_ACK, encode(ack), frame.correlation)
        self.state = ConnectionState.SCRAM_FIRST if method is Method.SCRAM else ConnectionState.CREDENTIALS

    def _on_credentials(self, frame: Frame) -> None:
        match self.attempt.method:
            case Method.CERTIFICATE:
                self._welcome(self._certificate, frame)
            case Method.ANONYMOUS:
                self._welcome(self._authenticator.anonymous(), frame)
            case Method.BEARER:
                self._welcome(self._authenticator.bearer(decode(frame.payload, BearerBody).token), frame)
            case Method.SCRAM | None:
                raise AssertionError("SCRAM has states of its own")

    def _on_scram_first(self, frame: Frame) -> None:
        self.send(
            Kind.AUTH_REQUEST, self._scram.challenge(frame.payload, self._verifier_of), frame.correlation
        )
        self.state = ConnectionState.SCRAM_FINAL

    def _verifier_of(self, user: str) -> Verifier:
        self.attempt.name = user
        # made in either case, so that it takes the same time
        fake = fake_verifier(self._authenticator.fake_secret(), user)
        known = self._authenticator.verifier(user)
        if known is None:
            return fake
        verifier, self._scram_principal = known
        return verifier

    def _on_scram_final(self, frame: Frame) -> None:
        self._welcome(self._scram_principal, frame, self._scram.finish(frame.payload))

    def _welcome(self, principal: Principal | None, frame: Frame, v: str | None = None) -> None:
        if principal is None:
            assert self.attempt.method is not None
            raise AuthenticationFailed(NOBODY[self.attempt.method])
        ok = AuthOk(
            features=FEATURE_PARAMS,
            role=principal.role,
            session_id=self.session_id,
            topology=encode_topology(self._authenticator.topology(principal))
            if principal.topology_read
            else None,
            v=v,
            username=principal.name,
        )
        self.send(Kind.AUTH_OK, encode(ok), frame.correlation)
        self.principal = principal
        self.decoder.frame_bytes_max = FRAME_BYTES_MAX
        self.decoder.allow_compressed = True
        self.state = ConnectionState.OPEN

    _STEPS: ClassVar[Mapping[tuple[ConnectionState, int], Callable[[ServerConnection, Frame], None]]] = {
        (ConnectionState.HELLO, Kind.HELLO): _on_hello,
        (ConnectionState.CREDENTIALS, Kind.AUTH_RESPONSE): _on_credentials,
        (ConnectionState.SCRAM_FIRST, Kind.AUTH_RESPONSE): _on_scram_first,
        (ConnectionState.SCRAM_FINAL, Kind.AUTH_RESPONSE): _on_scram_final,
    }


class ClientConnection(FrameEncoder):
    """The client's side; its Hello waits to be sent from the beginning.

    While `challenge` is set, the shell owes `provide_salted_password`. `established` is None until the server
    has accepted us and, where we have a password, has proved that it knows its verifier.
    """

    def __init__(self, credentials: Credentials, *, nonce: str, client_name: str) -> None:
        """`nonce` is fresh and unguessable. Raises `AuthenticationFailed` for an impossible user name."""
        super().__init__()
        self.state = ConnectionState.HELLO
        self.challenge: Challenge | None = None
        self.established: Established | None = None
        self._credentials = credentials
        self._method = method_of(credentials)
        self._scram = ClientScram(credentials.user, nonce) if isinstance(credentials, Password) else None
        # The limit is for strangers at a server: an AuthOk carries the whole topology.
        self._decoder = FrameDecoder(FRAME_BYTES_MAX, allow_compressed=False)
        self._correlation = 0
        self._ack: HelloAck | None = None
        self._chunks.append(PREFACE)
        hello = Hello(versions=[VERSION], auth_methods=[self._method], client_name=client_name)
        self._say(Kind.HELLO, encode(hello))

    def receive_data(self, data: bytes) -> list[Frame]:
        """The frames that follow the handshake, in order.

        Raises `AuthenticationFailed` when the server refuses us or does not prove itself, `Refused` when it
        knows no users yet, `ProtocolError` when it breaks the protocol; the connection is then of no use.
        """
        frames = self._decoder.receive_data(data)
        if self.state is ConnectionState.OPEN:
            return frames
        for index, frame in enumerate(frames):
            step = self._STEPS.get((self.state, frame.kind)) or self._REFUSALS.get(frame.kind)
            if step is None:
                raise ProtocolError(f"server sent {kind_name(frame.kind)} in state {self.state.name}")
            step(self, frame)
            if self.established is not None:
                return frames[index + 1 :]
        return []

    def receive_eof(self) -> None:
        """The server has sent its last byte.

        Raises `AuthenticationFailed` or `ProtocolError` if that was within the handshake or in mid-frame.
        """
        if held := self._decoder.held_bytes:
            raise ProtocolError(f"connection ended inside a frame, after {held} bytes of it")
        if self.state is ConnectionState.HELLO:
            # A node that stops or is full looks the same, so another try is worth while.
            error = AuthenticationFailed(
                "the server closed the connection before its first answer",
                hint="under TLS 1.3 a refused client certificate looks so: check its CA and its dates",
            )
            error.retry = True
            raise error
        if self.state is not ConnectionState.OPEN:
            raise ProtocolError(f"the server closed the connection in state {self.state.name}")

    def provide_salted_password(self, salted: bytes) -> None:
        """Go on with what `salted_password` gave for `challenge`, which is cleared."""
        assert self._scram is not None and self.state is ConnectionState.SALTING
        self.challenge = None
        self._say(Kind.AUTH_RESPONSE, self._scram.final(salted))
        self.state = ConnectionState.SCRAM_FINAL

    def _say(self, kind: Kind, payload: bytes) -> None:
        self._correlation += 1
        self.send(kind, payload, self._correlation)

    def _on_hello_ack(self, frame: Frame) -> None:
        ack = decode(frame.payload, HelloAck)
        if ack.version != VERSION:
            raise ProtocolError(f"server chose version {ack.version}, we speak {VERSION}")
        if ack.auth != self._method:
            raise AuthenticationFailed(f"server demanded {ack.auth!r}, we offered {self._method.value!r}")
        self._ack = ack
        payload = b""
        if self._scram is not None:
            payload = self._scram.first()
        elif isinstance(self._credentials, Bearer):
            payload = encode(BearerBody(self._credentials.token))
        self._say(Kind.AUTH_RESPONSE, payload)
        self.state = ConnectionState.SCRAM_FIRST if self._scram is not None else ConnectionState.CREDENTIALS

    def _on_auth_request(self, frame: Frame) -> None:
        assert self._scram is not None
        self.challenge = self._scram.challenge(frame.payload)
        self.state = ConnectionState.SALTING

    def _on_auth_ok(self, frame: Frame) -> None:
        assert self._ack is not None
        ok = decode(frame.payload, AuthOk)
        if self._scram is not None:
            self._scram.verify(ok.v)
        self.established = Established(
            session_id=ok.session_id,
            role=ok.role,
            username=ok.username,
            features=ok.features,
            server=self._ack.server,
            hello_topology=decode_topology(self._ack.topology),
            topology=decode_topology(ok.topology),
        )
        self._decoder.allow_compressed = True
        self.state = ConnectionState.OPEN

    def _on_auth_fail(self, frame: Frame) -> None:
        self.state = ConnectionState.CLOSED
        raise refusal(frame.payload, self._credentials)

    def _on_error(self, frame: Frame) -> None:
        self.state = ConnectionState.CLOSED
        raise ProtocolError(f"server answered: {frame.payload[:1024].decode('utf-8', 'replace')}")

    _STEPS: ClassVar[Mapping[tuple[ConnectionState, int], Callable[[ClientConnection, Frame], None]]] = {
        (ConnectionState.HELLO, Kind.HELLO_ACK): _on_hello_ack,
        (ConnectionState.SCRAM_FIRST, Kind.AUTH_REQUEST): _on_auth_request,
        (ConnectionState.CREDENTIALS, Kind.AUTH_OK): _on_auth_ok,
        (ConnectionState.SCRAM_FINAL, Kind.AUTH_OK): _on_auth_ok,
    }
    _REFUSALS: ClassVar[Mapping[int, Callable[[ClientConnection, Frame], None]]] = {
        Kind.AUTH_FAIL: _on_auth_fail,
        Kind.ERROR: _on_error,
    }
