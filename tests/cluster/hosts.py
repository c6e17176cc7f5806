"""Hosts with addresses of their own on one switch, as namespaces of the kernel: for root, on Linux.

What `cut` takes away is not refused, as by a delay link that is cut: it vanishes, in one direction or both,
and nobody is told, as behind a router that has died.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
NETWORK = "10.77.0"
PREFIX = "redwire-test"
TABLE = "lost"

_numbers = itertools.count(1)


class Hosts:
    """One host for each name, and the one that `inside` acts on, whose line is never cut. To be entered."""

    def __init__(self, names: Iterable[str]) -> None:
        mine = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
        self.addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(names, 1)}
        self._spaces = {name: f"{mine}-{name}" for name in self.addresses}
        self._switch = f"{mine}-switch"

    def __enter__(self) -> Self:
        _forget_the_dead()
        try:
            _run("ip", "netns", "add", self._switch)
            self._set("link add switch type bridge", "link set switch up", "link set lo up")
            self._set(f"addr add {NETWORK}.254/24 dev switch")
            for name, space in self._spaces.items():
                _run("ip", "netns", "add", space)
                self._set(f"link add port-{name} type veth peer name line netns {space}")
                self._set(f"link set port-{name} master switch up")
                inside = ("ip", "-n", space)
                _run(*inside, "addr", "add", f"{self.addresses[name]}/24", "dev", "line")
                for device in ("line", "lo"):
                    _run(*inside, "link", "set", device, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for space in (*self._spaces.values(), self._switch):
            subprocess.run(["ip", "netns", "delete", space], stderr=subprocess.DEVNULL, check=False)

    def command(self, name: str, *words: str) -> list[str]:
        """What runs `words` on that host, as one process."""
        return ["ip", "netns", "exec", self._spaces[name], *words]

    def inside(self, work: Callable[[], T]) -> T:
        """What `work` returns on a host beside the others, in a thread of its own."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                self.move_here()
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return done.result()

    def move_here(self) -> None:
        """Have this thread on the host beside the others; its sockets so far stay where they are."""
        libc = ctypes.CDLL(None, use_errno=True)
        fd = os.open(f"/run/netns/{self._switch}", os.O_RDONLY)
        try:
            if libc.setns(fd, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(fd)

    @contextmanager
    def cut(self, name: str, *ways: str, percent: int = 100) -> Iterator[None]:
        """Inside, what the host gets (`input`) or sends (`output`) vanishes, all of it or so much."""
        rules = [f"add table inet {TABLE}"]
        for way in ways:
            rules += [
                f"add chain inet {TABLE} {way} {{ type filter hook {way} priority 0; }}",
                f"add rule inet {TABLE} {way} numgen random mod 100 <= {percent - 1} drop",
            ]
        _run(*self.command(name, "nft", "; ".join(rules)))
        try:
            yield
        finally:
            _run(*self.command(name, "nft", f"delete table inet {TABLE}"))

    def _set(self, *settings: str) -> None:
        for setting in settings:
            _run("ip", "-n", self._switch, *setting.split())


def _forget_the_dead() -> None:
    """Delete the namespaces of test runs that were killed."""
    for path in Path("/run/netns").glob(f"{PREFIX}-*-*"):
        owner = path.name.removeprefix(f"{PREFIX}-").split("-")[0]
        if not Path(f"/proc/{owner}").exists():
            subprocess.run(["ip", "netns", "delete", path.name], stderr=subprocess.DEVNULL, check=False)


def end_with_parent() -> None:
    """Have this process killed when the thread that made it has ended, however that ended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(*words: str) -> None:
    subprocess.run(words, check=True)
