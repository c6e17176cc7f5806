"""The terminal on which the monitor is drawn, and from which its keys come."""

from __future__ import annotations

from textual.drivers.linux_driver import LinuxDriver


class Terminal(LinuxDriver):
    """Passes over keys that are no UTF-8, as a terminal of another encoding sends them for letters with
    accents.
    """

    def run_input_thread(self) -> None:
        """Read keys until the end. Textual's own reading ends with an error at what it cannot decode."""
        while True:
            try:
                return super().run_input_thread()
            except UnicodeDecodeError:
                pass
