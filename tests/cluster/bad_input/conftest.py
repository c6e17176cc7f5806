"""Real nodes for an attacker: raw sockets in every identity, and a check that a node lives on unharmed.

A `Site` is a cluster of two whose second node was killed once it had joined, so that its identity is free for
the attacker. Everything that the good client wrote is remembered and must still be there after each attack.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from redwire.body import decode, encode
from redwire.errors import ProtocolError, RedwireError
from redwire.frame import Frame, FrameDecoder, Kind, encode_frame
from redwire.handshake import PREFACE
from redwire.message.admin import PutUser, ScramRecord
from redwire.message.client import Open as OpenBody
from redwire.message.client import Opened, decode_written, encode_write_frame_body
from redwire.message.failure import Failure
from redwire.message.read import Fetch, Fetched
from redwire.record import Key, Op, Record, encode_record, encode_write
from redwire.status import Status
from redwire.status import decode as decode_status
from redwire.tls import ALPN
from tests.cluster.forked_cluster import ForkedCluster
from tests.cluster.handmade import in_time
from tools.dev.plan import ClusterPlan, NodePlan

ANSWER_S = 10.0
DOCUMENT = b'{"kept":"through everything"}'


class Wire:
    """One raw connection: bytes out, frames in, nothing done unasked."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []
        self._ended = False
        self._correlations = itertools.count(1)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()

    def send(self, *chunks: bytes) -> None:
        """Send bytes. That the other side is gone shows in what comes next."""
        with contextlib.suppress(OSError):
            self.sock.sendall(b"".join(chunks))

    def send_frame(self, kind: int, payload: bytes = b"", correlation: int | None = None) -> int:
        """Send one frame; its correlation."""
        number = next(self._correlations) if correlation is None else correlation
        self.send(encode_frame(kind, payload, number))
        return number

    def frame(self, timeout_s: float = ANSWER_S) -> Frame | None:
        """The next frame; None once the other side has closed. Raises `TimeoutError`.

        Who was refused goes first: the other side waits for that, and is spared it here.
        """
        deadline = time.monotonic() + timeout_s
        while not self._frames:
            if self._ended:
                return None
            self.sock.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.sock.recv(1 << 18)
            except TimeoutError:
                raise
            except OSError:
                data = b""
            self._ended = not data
            self._frames += self._decoder.receive_data(data)
        frame = self._frames.pop(0)
        if frame.kind == Kind.AUTH_FAIL:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_WR)  # TLS's own would end the reading as well
        return frame

    def error(self, kind: int, payload: bytes = b"", timeout_s: float = ANSWER_S) -> RedwireError:
        """One request that must fail; how."""
        return failure(self.ask(kind, payload, timeout_s))

    def ask(self, kind: int, payload: bytes = b"", timeout_s: float = ANSWER_S) -> Frame:
        """One request and the frame that answers it, or speaks of the connection."""
        number = self.send_frame(kind, payload)
        while True:
            frame = self.frame(timeout_s)
            assert frame is not None, "the node closed the connection instead of answering"
            if frame.kind == Kind.WRITTEN and frame.correlation == 0:
                assert any(entry.correlation == number for entry in decode_written(frame.payload)[1])
                return frame
            if frame.correlation == number or frame.kind in (Kind.ERROR, Kind.FAILURE):
                return frame

    def last_words(self, timeout_s: float = ANSWER_S) -> list[Frame]:
        """All frames until the other side closes. Raises `TimeoutError` if it does not."""
        frames = []
        while (frame := self.frame(timeout_s)) is not None:
            frames.append(frame)
        return frames

    def words(self, for_s: float) -> list[Frame]:
        """What comes within a while; then the connection is open, unless it `ended`."""
        frames, deadline = [], time.monotonic() + for_s
        with contextlib.suppress(TimeoutError):
            while (left := deadline - time.monotonic()) > 0 and (frame := self.frame(left)) is not None:
                frames.append(frame)
        return frames

    @property
    def ended(self) -> bool:
        """Whether the other side was seen to close."""
        return self._ended


def failure(frame: Frame) -> RedwireError:
    """The error in a Failure frame, or in a driver's Error or StreamError as far as its text goes."""
    if frame.kind == Kind.ERROR:
        return ProtocolError(frame.payload.decode())
    if frame.kind == Kind.STREAM_ERROR:
        return ProtocolError(msgspec.json.decode(frame.payload)["message"])
    assert frame.kind == Kind.FAILURE, f"answered with {frame}"
    return decode(frame.payload, Failure).to_error()


@dataclass
class Site:
    """A cluster under attack. Users `reader` and `writer` and administrator `ops` have certificates."""

    cluster: ForkedCluster
    node: str = "eu-1"
    written: dict[str, int] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _watcher: Wire | None = None

    @property
    def pid(self) -> int:
        return self.cluster.processes[self.node].pid

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.cluster.ports[self.node]

    def rss_bytes(self) -> int:
        """What the node's process holds in memory now."""
        return _status_kib(self.pid, "VmRSS:") << 10

    def rest_bytes(self) -> int:
        """The same once it is at rest: what a test before has left under way is over."""
        deadline_s, held, still = time.monotonic() + 10, self.rss_bytes(), 0
        while still < 5:
            assert time.monotonic() < deadline_s, f"it never comes to rest: {held} bytes"
            time.sleep(0.05)
            before, held = held, self.rss_bytes()
            still = still + 1 if abs(held - before) < 1 << 20 else 0
        return held

    def peak_bytes(self) -> int:
        """The most that it has held since it was started, or since `forget_peak`."""
        return _status_kib(self.pid, "VmHWM:") << 10

    def forget_peak(self) -> None:
        """Begin to measure the peak anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def tcp(self) -> Wire:
        """Connected, and nothing said."""
        return Wire(self._connected())

    def tls(self, who: str | None = None, *, version: ssl.TLSVersion | None = None) -> Wire:
        """Connected over TLS with the certificate of `who`, or with none."""
        return self.tls_by(self.context(who, version=version))

    def tls_by(self, context: ssl.SSLContext) -> Wire:
        return Wire(context.wrap_socket(self._connected(), server_hostname="localhost"))

    def _connected(self) -> socket.socket:
        sock = socket.create_connection(self.address, timeout=ANSWER_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def context(
        self, who: str | None = None, *, folder: Path | None = None, version: ssl.TLSVersion | None = None
    ) -> ssl.SSLContext:
        """How a client with the certificate of `who` in `folder`, by default the cluster's, does TLS."""
        context = ssl.create_default_context(cafile=self.cluster.folder / "ca.pem")
        context.set_alpn_protocols([ALPN])
        if version is not None:
            context.maximum_version = version
        if who is not None:
            there = folder or self.cluster.folder
            context.load_cert_chain(there / f"{who}.pem", there / f"{who}.key")
        return context

    def login(self, who: str | None = None) -> Wire:
        """An authenticated session: by the certificate of `who`, else anonymous."""
        wire = self.tls(who)
        authenticate(wire, "anonymous" if who is None else "certificate")
        return wire

    def put(self, wire: Wire, ident: str, document: bytes = DOCUMENT, collection: str = "good") -> Frame:
        """Write a document by our own client's kind; the answer."""
        return wire.ask(Kind.WRITE, write_body([Record(Op.PUT, collection, ident, document)]))

    def check(self) -> None:
        """The node lives, a good client writes and reads, and nothing that was acknowledged is lost."""
        assert self.cluster.processes[self.node].poll() is None, self.log_tail()
        ident = f"doc-{next(self._numbers)}"
        with self.login("ops") as good:
            answer = self.put(good, ident)
            assert answer.kind == Kind.WRITTEN, failure(answer)
            self.written[ident] = version_of(answer)
            self._read_back(good, list(self.written)[-5:])

    def check_everything(self) -> None:
        """Nothing that was ever acknowledged is lost."""
        self.check()
        with self.login("ops") as good:
            self._read_back(good, list(self.written))

    def _read_back(self, good: Wire, idents: list[str]) -> None:
        for ident in idents:
            fetched = Fetched.decode(good.ask(Kind.FETCH, Fetch("good", ident).encode()).payload)
            assert (fetched.found, fetched.version, fetched.document) == (True, self.written[ident], DOCUMENT)

    @contextlib.contextmanager
    def nothing_written(self) -> Iterator[None]:
        """What happens inside leaves the log as it was, and the node alive."""
        before = self.status().own.received
        yield
        assert self.cluster.processes[self.node].poll() is None, self.log_tail()
        assert self.status().own.received == before

    failure = staticmethod(lambda frame: failure(frame))
    write_body = staticmethod(lambda *records, **how: write_body(list(records), **how))
    authenticate = staticmethod(lambda wire, method: authenticate(wire, method))
    hello_body = staticmethod(lambda *how: hello_body(*how))
    version_of = staticmethod(lambda frame: version_of(frame))
    client_id = staticmethod(lambda wire: client_id(wire))
    lives = staticmethod(lambda wire: lives(wire))
    wire = staticmethod(lambda sock: Wire(sock))

    def status(self) -> Status:
        """The node's status document, over a session that lives through everything."""
        if self._watcher is None:
            self._watcher = self.login("ops")
        return decode_status(self._watcher.ask(Kind.STATUS_REQUEST).payload)

    def stop(self) -> None:
        """End the cluster."""
        if self._watcher is not None:
            self._watcher.close()
        self.cluster.stop()

    def log_tail(self) -> str:
        return "\n".join(self.cluster.log_path(self.node).read_text().splitlines()[-20:])


def authenticate(wire: Wire, method: str) -> Frame:
    """Go through the handshake; the AuthOk."""
    wire.send(PREFACE, encode_frame(Kind.HELLO, hello_body(method), 1))
    answer = wire.frame()
    assert answer is not None and answer.kind == Kind.HELLO_ACK, answer
    wire.send_frame(Kind.AUTH_RESPONSE, b"", 2)
    answer = wire.frame()
    assert answer is not None and answer.kind == Kind.AUTH_OK, answer
    return answer


def hello_body(method: str = "anonymous", versions: tuple[int, ...] = (1,)) -> bytes:
    return msgspec.json.encode({"versions": versions, "auth_methods": [method], "features": 0})


def write_body(
    records: list[Record], *, key: Key | None = None, policy: str = "", attempt: int = 1, ms: int = 5000
) -> bytes:
    request = encode_write([encode_record(record) for record in records], key)
    return encode_write_frame_body(ms, attempt, policy, request)


def version_of(written: Frame) -> int:
    """The version that the first record of a Written got."""
    _, entries = decode_written(written.payload)
    return entries[0].results[0][1]


def client_id(wire: Wire) -> bytes:
    """What the node issues to this session."""
    return decode(wire.ask(Kind.OPEN, encode(OpenBody("test", False))).payload, Opened).client_id


def lives(wire: Wire) -> bool:
    """Whether a client's session still answers."""
    return wire.ask(Kind.PING).kind == Kind.PONG


def _status_kib(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def start_site(folder: Path, *, settings: dict[str, object] | None = None) -> Site:
    """Start a site in `folder`; `stop` ends it."""
    plan = ClusterPlan(
        (NodePlan("eu-1", "eu"), NodePlan("us-1", "us")),
        settings={"policy": "local", **(settings or {})},
        node_sections={"auth": {"anonymous": "read"}},
    )
    cluster = ForkedCluster(plan, folder)
    for user in ("reader", "writer"):
        cluster.authority.issue_user(user).save(folder, user)
    cluster.start()
    try:
        cluster.wait_ready()
        cluster.kill("us-1")
        site = Site(cluster)
        with site.login("ops") as ops:
            for user, role in (("reader", "read"), ("writer", "write")):
                change = in_time(encode(_user(user, role)))
                assert ops.ask(Kind.ACCOUNT, change).kind == Kind.ACCOUNT_DONE
    except BaseException:
        cluster.stop()
        raise
    return site


def _user(name: str, role: str) -> PutUser:
    scram = ScramRecord(salt=bytes(16), iterations=16_384, stored_key=bytes(32), server_key=bytes(32))
    return PutUser(name=name, role=role, verifier=scram, topology_read=False)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = start_site(tmp_path_factory.mktemp("site"))
    try:
        yield site
        site.check_everything()
    finally:
        site.stop()


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """The shared site, which must be as well after the test as before."""
    yield shared_site
    shared_site.check()


@pytest.fixture
def site_of() -> Iterator[Callable[[ForkedCluster], Site]]:
    """Makes sites of clusters that run already; they end with the test."""
    with contextlib.ExitStack() as stack:

        def make(cluster: ForkedCluster) -> Site:
            site = Site(cluster)
            stack.callback(site.stop)
            return site

        yield make


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes sites that a test has for itself."""
    with contextlib.ExitStack() as stack:

        def make(**settings: object) -> Site:
            site = start_site(tmp_path, settings=settings)
            stack.callback(site.stop)
            return site

        yield make
