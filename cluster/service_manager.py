"""The service manager that started this process, if one did: told that it is ready, lives, and ends.

The protocol is that of sd_notify(3): datagrams of lines `NAME=value` to the socket that NOTIFY_SOCKET names.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

import anyio

from cluster.log_config import Level, Note


class ServiceManager:
    """Does nothing where nobody listens. Never waits, never raises."""

    def __init__(self, environment: Mapping[str, str], note: Note) -> None:
        """`environment` is that of the process."""
        self._note = note
        self._sock: socket.socket | None = None
        self._trouble = ""
        self.watchdog_s = _watchdog_s(environment)
        address = environment.get("NOTIFY_SOCKET", "")
        if address.startswith(("/", "@")):
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._sock.setblocking(False)
            self._address = "\0" + address[1:] if address[0] == "@" else address

    @property
    def watches(self) -> bool:
        """Whether the process is ended when it is silent for `watchdog_s`."""
        return self._sock is not None and self.watchdog_s is not None

    def ready(self) -> None:
        """The node listens. It does not wait for its cluster: hosts may be started one after the other."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """New files are being read; `ready` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1_000}")

    def stopping(self) -> None:
        """The process ends."""
        self._tell("STOPPING=1")

    async def watchdog(self, alive: Callable[[], bool]) -> None:
        """Say at least twice within `watchdog_s` that this process lives, as long as it does."""
        assert self.watchdog_s is not None
        while True:
            if alive():
                self._tell("WATCHDOG=1")
            await anyio.sleep(self.watchdog_s / 3)

    def close(self) -> None:
        """Nothing is told any more."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _tell(self, text: str) -> None:
        if self._sock is None:
            return
        try:
            self._sock.sendto(text.encode(), self._address)
            self._trouble = ""
        except OSError as error:
            trouble = error.strerror or str(error)
            if trouble != self._trouble:
                self._trouble = trouble
                self._note(f"the service manager cannot be told: {trouble}", Level.WARNING)


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """How long the manager accepts silence; None where it does not look, or looks at another process."""
    text = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(text) / 1e6 if text.isascii() and text.isdecimal() and int(text) > 0 else None
