"""The links of one machine as a process of their own: `python -m tools.dev.links links.json`.

The file holds a list of `LinkSpec` objects. Once all links listen the process takes commands on the Unix
socket `links.sock` beside it (see `tools.dev.control`) and answers each with `ok` or `error: …`:

    cut NAME [from REGION] [reset]  nothing passes, or nothing that REGION sends; reset: connections break too
    heal [NAME]                     everything passes as at first, what was held back before the rest
    slow NAME MS [JITTER_MS]        another one-way delay from here on
    status                          one line of JSON instead of ok

A NAME is that of two regions, sorted, and means all links between them. SIGTERM ends the process.
"""

from __future__ import annotations

import select
import selectors
import signal
import sys
from asyncio import SelectorEventLoop
from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec
from anyio.abc import TaskStatus

from redwire.errors import RedwireError
from tools.dev import control
from tools.dev.link import DelayLink, Direction, LinkSpec
from tools.errors import LinkInvalid, leaves


class Switchboard:
    """All links of a process, by name, and the commands that change them."""

    def __init__(self, specs: Sequence[LinkSpec]) -> None:
        self.links = [DelayLink(spec) for spec in specs]

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run every link until cancelled. Started when all listen. Raises as `DelayLink.serve`, grouped."""
        async with anyio.create_task_group() as group:
            for link in self.links:
                await group.start(link.serve)
            task_status.started()

    def command(self, line: str) -> str:
        """Do what `line` says; the answer, one line."""
        try:
            return self._command(line.split())
        except (RedwireError, ValueError) as error:
            return f"error: {error}"

    def _command(self, words: list[str]) -> str:
        match words:
            case ["status"]:
                return msgspec.json.encode([link.status() for link in self.links]).decode()
            case ["cut", name]:
                self._cut(name)
            case ["cut", name, "reset"]:
                self._cut(name, reset=True)
            case ["cut", name, "from", sender]:
                self._cut(name, sender)
            case ["cut", name, "from", sender, "reset"]:
                self._cut(name, sender, reset=True)
            case ["heal"]:
                for link in self.links:
                    link.heal()
            case ["heal", name]:
                for link in self._named(name):
                    link.heal()
            case ["slow", name, *numbers] if 1 <= len(numbers) <= 2:
                delays = [float(number) for number in numbers]
                for link in self._named(name):
                    link.set_delay(*delays)
            case _:
                raise LinkInvalid(f"{' '.join(words)!r} is no command", hint="cut, heal, slow or status")
        return "ok"

    def _cut(self, name: str, sender: str | None = None, *, reset: bool = False) -> None:
        for link in self._named(name):
            if sender is None:
                link.cut(reset=reset)
            elif sender in (link.spec.here, link.spec.there):
                link.cut(Direction.OUT if sender == link.spec.here else Direction.BACK, reset=reset)
            else:
                raise LinkInvalid(f"{sender} is at no end of {name}")

    def _named(self, name: str) -> list[DelayLink]:
        found = [link for link in self.links if link.spec.name == name]
        if not found:
            names = ", ".join(sorted({link.spec.name for link in self.links}))
            raise LinkInvalid(f"no link is called {name}", hint=f"there are {names}")
        return found


class PromptSelector(selectors.DefaultSelector):
    """Wakes up on time: epoll counts whole milliseconds and rounds up, which would lengthen every delay."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events, `timeout` seconds at most, to the microsecond."""
        if timeout is not None and timeout > 0 and sys.platform == "linux":
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def new_event_loop() -> SelectorEventLoop:
    """The event loop on which delays are exact."""
    return SelectorEventLoop(PromptSelector())


async def run(specs: Sequence[LinkSpec], socket: Path) -> None:
    """Run links under the commands that come to `socket`, until SIGTERM or SIGINT."""
    board = Switchboard(specs)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as group:
            await group.start(board.serve)
            group.start_soon(control.serve, socket, board.command)
            async for _ in signals:
                group.cancel_scope.cancel()
                return


def main(arguments: Sequence[str]) -> int:
    """Run the links that the file named in `arguments` describes; the exit code."""
    if arguments in (["-h"], ["--help"]):
        print(__doc__.strip())
        return 0
    if len(arguments) != 1:
        print("usage: python -m tools.dev.links SPEC.json", file=sys.stderr)
        return 2
    failures: list[str] = []
    try:
        path = Path(arguments[0])
        specs = msgspec.json.decode(path.read_bytes(), type=list[LinkSpec])
        anyio.run(run, specs, path.with_suffix(".sock"), backend_options={"loop_factory": new_event_loop})
    except* (OSError, msgspec.DecodeError) as group:
        failures.extend(f"{arguments[0]}: {error}" for error in group.exceptions)
    except* LinkInvalid as group:
        failures.extend(map(str, leaves(group)))
    for failure in failures:
        print(f"links: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
