"""The links of one machine as a process of their own: `python -m tools.dev.links SPEC.json`.

The file holds a list of `LinkSpec` objects. Once all links listen the process prints `ready`. Then it takes
one command a line on standard input and answers each on standard output with `ok` or `error: …`:

    cut NAME [out|back] [reset]  nothing passes (in one direction); reset: connections break too
    heal NAME                    everything passes again, what was held back first
    slow NAME MS [JITTER_MS]     another one-way delay from here on
    status                       one line of JSON instead of ok

A NAME that several links share means all of them. The process ends when its standard input does, so it does
not outlive whoever started it.
"""

from __future__ import annotations

import os
import select
import selectors
import sys
from asyncio import SelectorEventLoop
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
import msgspec
from anyio.abc import TaskStatus

from redwire.errors import RedwireError
from tools.dev.link import Direction, Link, LinkSpec
from tools.errors import LinkInvalid

READ_BYTES = 1 << 16


class Switchboard:
    """All links of a process, by name, and the commands that change them."""

    def __init__(self, specs: Sequence[LinkSpec]) -> None:
        self.links = [Link(spec) for spec in specs]

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run every link until cancelled. Started when all listen. Raises as `Link.serve`, in a group."""
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
            case ["cut", name, *options] if set(options) <= {*Direction, "reset"}:
                directions = [direction for direction in Direction if direction in options]
                for link in self._named(name):
                    link.cut(*directions, reset="reset" in options)
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

    def _named(self, name: str) -> list[Link]:
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


async def run(specs: Sequence[LinkSpec]) -> None:
    """Run links under the commands on standard input, until that ends."""
    board = Switchboard(specs)
    async with anyio.create_task_group() as group:
        await group.start(board.serve)
        print("ready", flush=True)
        async for line in _lines(sys.stdin.fileno()):
            print(board.command(line), flush=True)
        group.cancel_scope.cancel()


async def _lines(descriptor: int) -> AsyncIterator[str]:
    rest = b""
    while True:
        await anyio.wait_readable(descriptor)
        data = os.read(descriptor, READ_BYTES)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")


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
        specs = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=list[LinkSpec])
        anyio.run(run, specs, backend_options={"loop_factory": new_event_loop})
    except* (OSError, msgspec.DecodeError) as group:
        failures.extend(f"{arguments[0]}: {error}" for error in group.exceptions)
    except* LinkInvalid as group:
        failures.extend(_messages(group))
    for failure in failures:
        print(f"links: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _messages(group: BaseExceptionGroup[BaseException]) -> list[str]:
    """What the errors in `group` say, however deep task groups have wrapped them."""
    found: list[str] = []
    for error in group.exceptions:
        found.extend(_messages(error) if isinstance(error, BaseExceptionGroup) else [str(error)])
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
