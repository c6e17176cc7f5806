"""A line with a rate: what the delay links of `tools.dev` do not have."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Self

PIECE_BYTES = 8 << 10
WINDOW_BYTES = 64 << 10
"""What the operating system takes in at once; more of it would be sent at once, and the line be no slower."""


class NarrowLine:
    """A TCP proxy on loopback to `target` that carries `rate` bytes a second in each direction of each
    connection. To be entered.
    """

    def __init__(self, target: int, rate: float) -> None:
        self._target = target
        self._piece_s = PIECE_BYTES / rate
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
        self._listener.bind(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket()
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
                if far.connect_ex(("127.0.0.1", self._target)):
                    near.close()
                    far.close()
                    continue
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE_BYTES):
                to.sendall(data)
                time.sleep(self._piece_s * len(data) / PIECE_BYTES)
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
