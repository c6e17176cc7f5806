"""What the service manager is told: over a real socket, by both kinds of its address."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from cluster.log_config import Level
from cluster.service_manager import ServiceManager

SOON_S = 10.0


class Ears:
    """A service manager: hears what it is told at `address`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + address[1:] if address.startswith("@") else address)
        self.sock.settimeout(SOON_S)

    def hear(self) -> str:
        return self.sock.recv(4_096).decode()

    @property
    def silent(self) -> bool:
        self.sock.setblocking(False)
        try:
            self.sock.recv(4_096)
        except BlockingIOError:
            return True
        finally:
            self.sock.settimeout(SOON_S)
        return False


@pytest.fixture(params=["path", "abstract"])
def ears(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ears]:
    path = str(tmp_path / "notify")
    made = Ears(path if request.param == "path" else f"@{path}")
    yield made
    made.sock.close()


@pytest.fixture
def said() -> list[str]:
    return []


def manager(said: list[str], **environment: str) -> ServiceManager:
    def note(text: str, level: Level = Level.INFO) -> None:
        said.append(text)

    return ServiceManager(environment, note)


def test_a_process_says_that_it_is_ready_reloads_and_stops(ears: Ears, said: list[str]) -> None:
    told = manager(said, NOTIFY_SOCKET=ears.address)
    told.ready()
    told.reloading()
    told.stopping()
    assert ears.hear() == "READY=1"
    first, second = ears.hear().split("\n")
    assert first == "RELOADING=1" and second.startswith("MONOTONIC_USEC=")
    assert ears.hear() == "STOPPING=1"
    told.close()
    told.ready()
    assert ears.silent and said == []


async def test_the_watchdog_is_told_while_the_process_is_alive_and_not_otherwise(
    ears: Ears, said: list[str]
) -> None:
    told = manager(said, NOTIFY_SOCKET=ears.address, WATCHDOG_USEC="30000", WATCHDOG_PID=str(os.getpid()))
    assert told.watches and told.watchdog_s == 0.03
    alive, asked = True, 0

    def lives() -> bool:
        nonlocal asked
        asked += 1
        return alive

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(told.watchdog, lives)
        assert [await anyio.to_thread.run_sync(ears.hear) for _ in range(3)] == ["WATCHDOG=1"] * 3
        alive = False
        while not ears.silent:
            pass
        before = asked
        while asked < before + 3:
            await anyio.sleep(0.005)
        assert ears.silent
        tasks.cancel_scope.cancel()
    told.close()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "1000000"},
        {"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "1000000"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "0"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_where_nobody_watches_nobody_is_told(environment: dict[str, str], said: list[str]) -> None:
    told = manager(said, **environment)
    assert not told.watches
    told.close()


def test_a_manager_that_is_gone_is_said_once_and_stops_nothing(tmp_path: Path, said: list[str]) -> None:
    told = manager(said, NOTIFY_SOCKET=str(tmp_path / "gone"))
    told.ready()
    told.stopping()
    told.close()
    assert said == ["the service manager cannot be told: No such file or directory"]
