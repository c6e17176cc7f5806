"""Putting a snapshot in the place of state and log: new files under new names, one rename, then the old ones
go.

Whatever a crash leaves half done is either not named by `meta.cbor`, and then removed at the next start, or
complete. What is to be kept of the old is named there, and goes to `diverged/` then.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from cluster import files
from cluster import meta as meta_file
from cluster.errors import DiskFailed, MetaCorrupt, StateCorrupt
from cluster.meta import Meta
from cluster.state import State
from cluster.tables import open_reader, translated
from cluster.wal import Wal, generations
from redwire.position import ClusterId, Position

_KEPT = "diverged"
_STATE_FILE = re.compile(r"state(-\d+)?\.db(-wal|-shm|-journal)?\Z")


class Replacement(msgspec.Struct, frozen=True):
    """A whole snapshot in `file`, which ends at `at`. `diverged`: what it replaces is kept in `diverged/`."""

    file: Path
    at: Position
    diverged: bool

    def check(self) -> None:
        """Raises `StateCorrupt`, `FormatNewer` or `FormatOlder` for what is no state that ends at `at`.

        All that `install` will read of it is read here, where nothing has given way to it yet.
        """
        with translated(self.file), closing(open_reader(self.file, still=True)) as connection:
            stands = State(self.file, connection).applied
        if stands != self.at:
            raise StateCorrupt(self.file, f"the snapshot stands at {stands}, {self.at} was announced")

    def install(self, data_dir: Path, meta: Meta, wal: Wal, old: State) -> tuple[Meta, State]:
        """Make it the state in force, once it was checked; what `meta.cbor` says now, and the new state.

        Runs on the disk thread, while nothing is appended or applied. `old` is closed. Raises `DiskFull`:
        then it can be tried again, with the same arguments, and what `old` knows in memory still holds; and
        `DiskFailed`.
        """
        generation = meta.generation + 1
        path = data_dir / f"state-{generation}.db"
        if self.diverged and wal.base != wal.end:  # else there is none, or an earlier attempt came further
            wal.keep_tail(wal.base, data_dir / _KEPT, "a snapshot replaces this history")
        if self.file.exists():
            _move(self.file, path)
        elif not path.exists():  # else an empty state would be made in its place
            raise DiskFailed(self.file, "it was removed before it was installed")
        with ExitStack() as undo:
            state = undo.enter_context(closing(State.open(path)))
            wal.restart(self.at, state.terms, generation)  # an earlier attempt may have come as far
            meta = self._meta(meta, generation, state, old.path.name)
            meta_file.save(data_dir, meta)
            old.close()
            clear_strays(data_dir, meta)
            wal.remove_generation(generation - 1)
            undo.pop_all()
        return meta, state

    def _meta(self, meta: Meta, generation: int, state: State, old: str) -> Meta:
        """What names the new state and log, `meta` and the state named `old` being in force before."""
        records = state.cluster_records()
        return msgspec.structs.replace(
            meta,
            cluster=ClusterId(records[-1][1].cluster) if records else meta.cluster,
            generation=generation,
            base=self.at,
            terms=state.terms,
            state_file=state.path.name,
            set_aside=old if self.diverged else "",
            watermark=self.at.lsn if self.diverged else max(self.at.lsn, meta.watermark),
        )


def _move(source: Path, target: Path) -> None:
    """Give a file another name. Raises `DiskFull`, where the folder cannot grow, or `DiskFailed`."""
    with files.translated(target):
        os.replace(source, target)


def check_named(data_dir: Path, meta: Meta | None) -> None:
    """Raises `MetaCorrupt` for a state or a log that `meta` does not account for: a start would remove them.

    An interrupted replacement leaves what `meta` names where it is.
    """
    states = sorted(path.name for path in data_dir.glob("state*.db"))
    there = states or [str(path.relative_to(data_dir)) for path in sorted(data_dir.glob("wal/*/*.log"))]
    if meta is None and there:
        raise MetaCorrupt(data_dir / "meta.cbor", f"it is not there, and {there[0]} is")
    if meta is not None and states and meta.state_file not in states:
        raise MetaCorrupt(data_dir / "meta.cbor", f"it names {meta.state_file}, and there is {states[0]}")


def require_joined(state: Path, applied: Position, base: Position, logged: Position | None) -> None:
    """Raises `StateCorrupt` for a state of which the log is no continuation: that begins after `base`, and
    says `logged` of where the state stands, None where no batch ends there.
    """
    if applied.lsn < base.lsn:
        there = f"stands at LSN {applied.lsn}" if applied.lsn else "was removed, or is empty"
        raise StateCorrupt(state, f"it {there}, and the log goes on only from {base.lsn + 1}")
    if logged != applied:
        there = "no batch ends there" if logged is None else f"says {logged} of that"
        raise StateCorrupt(state, f"it stands at {applied}, and the log {there}: they are of two histories")


def clear_strays(data_dir: Path, meta: Meta) -> None:
    """Remove state files that `meta` does not name: an interrupted or a finished replacement left them. The
    one that it set aside goes to `diverged/`, with what SQLite has not brought into it yet.

    Raises `DiskFull` or `DiskFailed`.
    """
    kept = data_dir / _KEPT
    with files.translated(data_dir):
        for path in [path for path in data_dir.iterdir() if _STATE_FILE.match(path.name)]:
            if path.name.startswith(meta.state_file):
                continue
            if path.name in (meta.set_aside, f"{meta.set_aside}-wal"):
                files.SYSCALLS.make_folder(kept)
                _move(path, kept / f"{meta.generation - 1}-{path.name}")
            else:
                path.unlink()


def stray_generations(folder: Path, meta: Meta) -> list[int]:
    """Generations of the log that `meta` does not name."""
    return [generation for generation in generations(folder) if generation != meta.generation]
