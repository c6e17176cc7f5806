"""Delay links: what passes, when, in which order, and what a cut leaves of it. Real sockets on loopback."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tools.dev.control import ask
from tools.dev.link import QUEUE_BYTES_MAX
from tools.errors import LinkInvalid

ROOT = Path(__file__).parents[3]
SOON_S = 5.0
"""Longer than anything here takes; reaching it is a failure."""
FULL_S = 30.0
"""For what needs much of a core that others use too."""
QUIET_S = 0.15
"""How long nothing must arrive before a test believes that it is held back."""


class Board:
    """Links in their real process, commanded over its socket."""

    def __init__(self, process: subprocess.Popen[str], socket: Path) -> None:
        self.process = process
        self.socket = socket

    def __call__(self, command: str) -> str:
        return ask(self.socket, command)

    def status(self) -> list[dict[str, object]]:
        status: list[dict[str, object]] = json.loads(self("status"))
        return status

    def dial(self, index: int = 0) -> socket.socket:
        port = self.status()[index]["port"]
        assert isinstance(port, int)
        connection = socket.create_connection(("127.0.0.1", port), timeout=SOON_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


@contextmanager
def running(spec: Path) -> Iterator[Board]:
    command = [sys.executable, "-m", "tools.dev.links", str(spec)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, text=True) as process:
        try:
            board = Board(process, spec.with_suffix(".sock"))
            wait_listening(board)
            yield board
        finally:
            process.terminate()
            process.wait(SOON_S)


def wait_listening(board: Board) -> None:
    deadline = time.monotonic() + SOON_S
    while True:
        try:
            board("status")
            return
        except LinkInvalid:
            assert board.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture(scope="module")
def target() -> Iterator[socket.socket]:
    """A listener at the far end; tests accept from it themselves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SOON_S)
        yield listener


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory, target: socket.socket) -> Iterator[Board]:
    """A link from a to b, where `target` is, and one from a to c, to a port where nobody listens."""
    spec = {"here": "a", "there": "b", "listen_port": 0, "target_host": "127.0.0.1", "one_way_ms": 0}
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        nowhere = {**spec, "there": "c", "target_port": nobody.getsockname()[1], "jitter_ms": 0.5}
    path = tmp_path_factory.mktemp("links") / "links.json"
    path.write_text(json.dumps([{**spec, "target_port": target.getsockname()[1]}, nowhere]))
    with running(path) as board:
        yield board


@pytest.fixture
def board(links: Board, request: pytest.FixtureRequest) -> Board:
    """The links, whole again; the test's parameter, if it has one, is the one-way delay of `a-b` in ms."""
    assert links("heal") == "ok"
    assert links(f"slow a-b {getattr(request, 'param', 0)}") == "ok"
    return links


@contextmanager
def connected(board: Board, target: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection through the first link: (near end, far end)."""
    with board.dial() as near:
        far, _ = target.accept()
        with far:
            far.settimeout(SOON_S)
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield near, far


def receive(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (chunk := source.recv(size - len(data))):
        data += chunk
    return data


def is_quiet(source: socket.socket) -> bool:
    source.settimeout(QUIET_S)
    try:
        return source.recv(1, socket.MSG_PEEK) == b"never"
    except TimeoutError:
        return True
    finally:
        source.settimeout(SOON_S)


def round_trip_ms(near: socket.socket, far: socket.socket) -> float:
    began = time.perf_counter()
    near.sendall(b"?")
    assert far.recv(1) == b"?"
    far.sendall(b"!")
    assert near.recv(1) == b"!"
    return (time.perf_counter() - began) * 1000


@pytest.mark.parametrize(("board", "asked_ms"), [(0, 0), (3.3, 6.6), (20, 40)], indirect=["board"])
def test_a_round_trip_takes_what_was_asked_within_one_ms(
    board: Board, target: socket.socket, asked_ms: float
) -> None:
    """One of many: whatever else a machine does delays most of them, and never makes one quicker."""
    quickest_ms = float("inf")
    with connected(board, target) as (near, far):
        for _ in range(300):
            quickest_ms = min(quickest_ms, round_trip_ms(near, far))
            assert quickest_ms >= asked_ms - 1
            if quickest_ms <= asked_ms + 1:
                return
    pytest.fail(f"asked for {asked_ms} ms, got {quickest_ms:.2f} at best")


@pytest.mark.parametrize("board", [20], indirect=True)
def test_delay_does_not_limit_the_rate(board: Board, target: socket.socket) -> None:
    data = bytes(range(256)) * (16 << 12)  # 16 MiB: one chunk per 20 ms would take five seconds
    with connected(board, target) as (near, far):
        began = time.perf_counter()
        sender = threading.Thread(target=near.sendall, args=(data,))
        sender.start()
        assert receive(far, len(data)) == data
        sender.join()
        assert time.perf_counter() - began < 3


@pytest.mark.parametrize("board", [5], indirect=True)
def test_the_end_of_a_stream_arrives_behind_its_data_and_leaves_the_other_direction_open(
    board: Board, target: socket.socket
) -> None:
    with connected(board, target) as (near, far):
        near.sendall(b"question")
        near.shutdown(socket.SHUT_WR)
        assert receive(far, 100) == b"question"
        far.sendall(b"answer")
        assert receive(near, 6) == b"answer"
        far.close()
        assert near.recv(1) == b""


@pytest.mark.parametrize("board", [30], indirect=True)
def test_an_answer_on_its_way_arrives_though_its_sender_is_gone(board: Board, target: socket.socket) -> None:
    with connected(board, target) as (near, far):
        far.sendall(b"last words")
        far.close()
        near.sendall(b"x" * 1000)
        assert receive(near, 100) == b"last words"


def test_a_reset_stays_a_reset(board: Board, target: socket.socket) -> None:
    with connected(board, target) as (near, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        with pytest.raises(ConnectionResetError):
            near.recv(1)


def test_a_target_that_nobody_listens_on_resets(board: Board) -> None:
    with pytest.raises(ConnectionResetError), board.dial(1) as near:
        near.recv(1)


def test_a_cut_holds_everything_back_and_healing_delivers_it_in_order(
    board: Board, target: socket.socket
) -> None:
    with connected(board, target) as (near, far):
        assert board("cut a-b") == "ok"
        near.sendall(b"one")
        far.sendall(b"two")
        assert is_quiet(near) and is_quiet(far)
        assert board.status()[0]["cut"] == ["out", "back"]
        assert board.status()[0]["held_bytes"] == 6
        near.sendall(b"three")
        assert board("heal a-b") == "ok"
        assert receive(far, 8) == b"onethree"
        assert receive(near, 3) == b"two"
        assert board.status()[0]["cut"] == []


def test_a_cut_in_one_direction_leaves_the_other(board: Board, target: socket.socket) -> None:
    with connected(board, target) as (near, far):
        assert board("cut a-b from a") == "ok"
        near.sendall(b"held")
        far.sendall(b"free")
        assert receive(near, 4) == b"free"
        assert is_quiet(far)


def test_nobody_connects_through_a_cut_link_until_it_heals(board: Board, target: socket.socket) -> None:
    assert board("cut a-b from b") == "ok"
    with board.dial() as near:
        near.sendall(b"early")
        target.settimeout(QUIET_S)
        with pytest.raises(TimeoutError):
            target.accept()
        target.settimeout(SOON_S)
        assert board("heal a-b") == "ok"
        far, _ = target.accept()
        with far:
            assert receive(far, 5) == b"early"


def test_a_cut_with_reset_breaks_connections_old_and_new(board: Board, target: socket.socket) -> None:
    with connected(board, target) as (near, far):
        assert board("cut a-b reset") == "ok"
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        with pytest.raises(ConnectionResetError), board.dial() as late:
            late.recv(1)
        assert board.status()[0]["connections"] == 0
        assert board("heal a-b") == "ok"
    with connected(board, target) as (near, far):
        assert round_trip_ms(near, far) < 1000


def test_a_slower_link_keeps_the_order_of_what_is_on_its_way(board: Board, target: socket.socket) -> None:
    with connected(board, target) as (near, far):
        assert board("slow a-b 120") == "ok"
        near.sendall(b"first")
        time.sleep(0.02)
        assert board("slow a-b 0") == "ok"
        near.sendall(b"second")
        assert receive(far, 11) == b"firstsecond"
        assert round_trip_ms(near, far) < 100


def test_healing_makes_a_link_as_quick_as_it_was(board: Board, target: socket.socket) -> None:
    assert board("slow a-b 200 50") == "ok"
    assert (board.status()[0]["one_way_ms"], board.status()[0]["jitter_ms"]) == (200, 50)
    assert board("heal a-b") == "ok"
    assert (board.status()[0]["one_way_ms"], board.status()[0]["jitter_ms"]) == (0, 0)
    with connected(board, target) as (near, far):
        assert round_trip_ms(near, far) < 100


def test_a_full_queue_stops_the_sender(board: Board, target: socket.socket) -> None:
    with connected(board, target) as (near, _far):
        assert board("cut a-b") == "ok"
        near.settimeout(QUIET_S)
        held = sent = 0
        deadline_s = time.monotonic() + FULL_S
        while (
            held < QUEUE_BYTES_MAX and time.monotonic() < deadline_s
        ):  # a link that gets no core is quiet too
            with suppress(TimeoutError):
                while sent < 4 * QUEUE_BYTES_MAX:
                    sent += near.send(b"x" * (1 << 20))
            held = int(str(board.status()[0]["held_bytes"]))
        with pytest.raises(TimeoutError):
            near.sendall(b"x" * (16 << 20))
        assert QUEUE_BYTES_MAX <= held <= QUEUE_BYTES_MAX + (1 << 16)
        assert board.status()[0]["held_bytes"] == held


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("cut a-d", "error: no link is called a-d; there are a-b, a-c"),
        ("cut a-b sideways", "error: 'cut a-b sideways' is no command; cut, heal, slow or status"),
        ("cut a-b from c", "error: c is at no end of a-b"),
        ("heal a-d", "error: no link is called a-d; there are a-b, a-c"),
        ("slow a-b", "error: 'slow a-b' is no command; cut, heal, slow or status"),
        ("slow a-b soon", "error: could not convert string to float: 'soon'"),
        ("slow a-b nan", "error: a delay lies between 0 and 60000 ms"),
        ("slow a-b -1", "error: a delay lies between 0 and 60000 ms"),
        ("", "error: '' is no command; cut, heal, slow or status"),
    ],
)
def test_a_command_that_cannot_be_is_answered_with_why(board: Board, command: str, answer: str) -> None:
    assert board(command) == answer


def test_status_shows_every_link(board: Board, target: socket.socket) -> None:
    first, second = board.status()
    assert (first["name"], second["name"]) == ("a-b", "a-c")
    assert (second["one_way_ms"], second["jitter_ms"]) == (0, 0.5)
    assert first["target"] == f"127.0.0.1:{target.getsockname()[1]}"
    with connected(board, target):
        assert board.status()[0]["connections"] == 1
    assert second["connections"] == 0


def test_links_end_at_sigterm_and_leave_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "links.json"
    path.write_text("[]")
    with running(path) as board:
        assert stat.S_IMODE(board.socket.stat().st_mode) == 0o600
        board.process.terminate()
        assert board.process.wait(SOON_S) == 0
        assert not board.socket.exists()
        with pytest.raises(LinkInvalid, match="nobody takes commands"):
            board("status")


def test_the_socket_of_links_that_were_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / ("deep" * 40) / "links.json"  # longer than the address of a socket may be
    path.parent.mkdir()
    path.write_text("[]")
    with running(path) as board:
        board.process.kill()
        board.process.wait(SOON_S)
        assert board.socket.exists()
    with running(path) as board:
        assert board.status() == []


def test_several_commands_may_come_at_once_and_in_pieces(board: Board) -> None:
    with socket.socket(socket.AF_UNIX) as one, board.dial() as _:
        one.connect(str(board.socket))
        one.sendall(b"heal a-b\nheal a")
        answers = one.makefile("rb")
        assert answers.readline() == b"ok\n"
        assert board("heal a-c") == "ok"
        one.sendall(b"-x\n")
        assert answers.readline().startswith(b"error: no link is called a-x")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("[", "truncated"),
        ('[{"here": "a", "there": "b", "listen_port": 70000}]', "65535"),
        ('[{"nam": "a"}]', "unknown field `nam`"),
        (None, "No such file"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(tmp_path: Path, spec: str | None, message: str) -> None:
    path = tmp_path / "links.json"
    if spec is not None:
        path.write_text(spec)
    code, errors = ended(str(path))
    assert code == 1
    assert str(path) in errors and message in errors


def test_a_port_in_use_is_named(tmp_path: Path, target: socket.socket) -> None:
    port = target.getsockname()[1]
    path = tmp_path / "links.json"
    spec = {"here": "a", "there": "b", "listen_port": port, "target_host": "h", "target_port": 1}
    spec["one_way_ms"] = 0
    path.write_text(json.dumps([spec]))
    code, errors = ended(str(path))
    assert code == 1
    assert errors.startswith(f"links: link a-b cannot listen on port {port}: ")


def test_without_a_spec_links_say_how_to_use_them() -> None:
    assert ended() == (2, "usage: python -m tools.dev.links SPEC.json\n")


def test_links_tell_their_commands_when_asked_for_help() -> None:
    command = [sys.executable, "-m", "tools.dev.links", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SOON_S, check=True)
    assert "python -m tools.dev.links links.json" in result.stdout and "cut NAME" in result.stdout


def ended(*arguments: str) -> tuple[int, str]:
    """Exit code and error output of links that do not get to run."""
    command = [sys.executable, "-m", "tools.dev.links", *arguments]
    result = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SOON_S
    )
    return result.returncode, result.stderr
