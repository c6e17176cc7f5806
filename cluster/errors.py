"""Everything that one node raises about itself.

RedwireError
├── NodeError
│   ├── DataDirInUse          another process works in this data directory
│   ├── DataDirForeign        a data directory of another node
│   ├── DataDirNoFolder       something else stands where the data directory should be
│   ├── Scarce                the system gives this process no more threads or memory
│   ├── ListenFailed          the listener's address cannot be had
│   ├── ReloadFailed          a running node was not brought to use new credentials
│   ├── FormatNewer           a file that only a newer version understands: never cut, never overwritten
│   ├── FormatOlder           a file of an earlier version, which this one does not read
│   ├── MetaCorrupt           meta.cbor is damaged
│   ├── LogCorrupt            the log is damaged where it was known to be durable
│   ├── LogPruned             the log no longer reaches back that far
│   ├── CutRefused            a cut that would take away what is known committed (R5)
│   ├── DiskFull              no space: nothing was changed, and it passes by itself
│   ├── NoSpaceToStart        no space to open the data directory: nothing was changed, and the process ends
│   ├── DiskFailed            a write or sync failed: final for this process
│   │   └── StateLocked       another process writes into the state's file
│   ├── StateCorrupt          a state file that cannot be trusted
│   ├── OutOfOrder            a batch that does not continue the state it was given to
│   ├── ApplyStopped          a record that this node cannot apply: never skipped (R10)
│   └── CalledOff             work of a thread that nobody waits for any more; nobody is told
└── QueryFailed               SQL that was refused, or that went over a limit
"""

from __future__ import annotations

from pathlib import Path

from redwire.errors import Code, RedwireError
from redwire.position import Lsn, Position

_MEND = (
    "keep this directory for inspection, give the node an empty one and let it join again: "
    "it takes a snapshot and the log from another member"
)


def first(group: BaseExceptionGroup[RedwireError]) -> RedwireError:
    """The error that `group` begins with: of those that came together, one is told."""
    error = group.exceptions[0]
    return first(error) if isinstance(error, BaseExceptionGroup) else error


class NodeError(RedwireError):
    """Something about this node itself, not about a request or a peer."""


class DataDirInUse(NodeError):
    """A second process for one data directory. `pid` is the holder's, 0 if it did not say."""

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(
            f"{path} is in use by process {pid or 'unknown'}",
            hint="stop that process, or give this node a data directory of its own",
            facts={"file": str(path), "pid": pid},
        )
        self.pid = pid


class DataDirForeign(NodeError):
    """The data directory was made by another node."""

    def __init__(self, path: Path, owner: str, me: str) -> None:
        super().__init__(
            f"{path} belongs to node {owner}, not to {me}", hint="give every node a directory of its own"
        )


class DataDirNoFolder(NodeError):
    """What stands at `there`, which is the data directory or above it, is no directory."""

    def __init__(self, path: Path, there: Path) -> None:
        what = "a file" if there.is_file() else "no directory" if there.exists() else "a link to nothing"
        where = f"{path}: it" if there == path else f"{path}: {there}"
        super().__init__(
            f"{where} is {what}; node.data_dir names a directory",
            hint="name another one, or move away what stands there",
            facts={"file": str(there)},
        )


class Scarce(NodeError):
    """The system refused this process a thread, or memory."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the system gives this process no more {what}",
            hint="raise its limits: ulimit -u and -v, or TasksMax, MemoryMax and LimitAS of its service",
        )


class ListenFailed(NodeError):
    """The listener's address cannot be had."""


class ReloadFailed(NodeError):
    """A running node was not brought to use new credentials, or it is not known whether it was."""


class FormatNewer(NodeError):
    """A file written by a newer version. Nothing in it was touched."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path}: {what}",
            hint="a newer version wrote it: start that version again",
            facts={"file": str(path)},
        )


class FormatOlder(NodeError):
    """A file of an earlier version, which this one does not read. Nothing in it was touched."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path}: {what}",
            hint="formats change before 1.0: start that version again, or give the node an empty directory",
            facts={"file": str(path)},
        )


class MetaCorrupt(NodeError):
    """meta.cbor cannot be trusted, so neither can the node's promises about terms. Nothing was touched."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} is damaged: {what}", hint=_MEND, facts={"file": str(path)})


class LogCorrupt(NodeError):
    """Bad bytes in a part of the log that was durable: no interrupted write explains them. Nothing was cut.

    `path` and `offset` say where the bytes stand, `lsn` is the first record that cannot be read.
    """

    def __init__(self, path: Path, offset: int, lsn: Lsn, what: str) -> None:
        super().__init__(
            f"{path} is damaged at byte {offset} (LSN {lsn}): {what}",
            hint=_MEND,
            facts={"file": str(path), "offset": offset, "lsn": lsn},
        )
        self.path = path
        self.offset = offset
        self.lsn = lsn


class LogPruned(NodeError):
    """What was asked for lies before `base`, the oldest position that the log can continue from."""

    code = Code.SNAPSHOT_NEEDED

    def __init__(self, asked: Lsn, base: Position) -> None:
        super().__init__(
            f"the log after LSN {asked} is not kept any more, it begins after {base.lsn}",
            hint="take a snapshot first",
            facts={"lsn": asked, "base": base.lsn},
        )
        self.base = base


class CutRefused(NodeError):
    """A cut to `to` would remove records up to `committed`, which this very log says are committed (R5)."""

    def __init__(self, to: Position, committed: Lsn) -> None:
        super().__init__(
            f"the log is not cut to {to}: records up to LSN {committed} in it are committed",
            facts={"lsn": to.lsn, "committed": committed},
        )
        self.committed = committed


class DiskFull(NodeError):
    """There is no space for what was asked. Nothing was changed; the same call works once there is space."""

    code = Code.DISK_FULL
    retry = True

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path}: no space {what}",
            hint="free some disk space; the node goes on by itself",
            facts={"file": str(path)},
        )


class NoSpaceToStart(NodeError):
    """`full` came while the data directory was opened: there is no node yet that could wait for space."""

    code = Code.DISK_FULL

    def __init__(self, full: DiskFull) -> None:
        super().__init__(
            full.message,
            hint="free some disk space, then start the node again; a service manager does it by itself",
            facts=full.facts,
        )


class DiskFailed(NodeError):
    """A write or a sync failed. What reached the disk is unknown, so this process acknowledges nothing any
    more.

    A second sync would report success for pages that the kernel dropped: only a restart, which reads what the
    disk really holds, is safe.
    """

    code = Code.DAMAGED

    def __init__(
        self,
        path: Path,
        what: str,
        hint: str = "check the disk, and that the node may read and write there, then start the node again",
    ) -> None:
        super().__init__(f"{path}: {what}", hint=hint, facts={"file": str(path)})


class StateLocked(DiskFailed):
    """Another process holds SQLite's write lock on the state's file. Nothing was changed."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path,
            "another process writes into it, and lets nobody else",
            hint="end that process (fuser names it), then start the node again; "
            "whoever reads opens the file with mode=ro",
        )


class StateCorrupt(NodeError):
    """A state file that is damaged, or that is no state file. Nothing in it was touched."""

    code = Code.DAMAGED

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} is damaged: {what}", hint=_MEND, facts={"file": str(path)})


class OutOfOrder(NodeError):
    """A batch that begins at `first` was given to a state or log that ends at `end` and that it does not
    continue."""

    def __init__(self, first: Lsn, end: Position) -> None:
        super().__init__(
            f"the batch at LSN {first} does not continue what ends at {end}",
            facts={"lsn": first, "end": end.lsn, "term": end.term},
        )


class ApplyStopped(NodeError):
    """The batch that ends at `last` holds something that this node cannot apply. The state stands before it
    (R10)."""

    def __init__(self, last: Lsn, what: str) -> None:
        super().__init__(
            f"cannot apply the batch that ends at LSN {last}: {what}",
            hint="if a newer version wrote it, run that version here",
            facts={"lsn": last},
        )


class CalledOff(NodeError):
    """Work of a thread ends here: nobody waits for it any more."""

    def __init__(self) -> None:
        super().__init__("called off")


class QueryFailed(RedwireError):
    """A statement that was refused, failed, or went over a limit. Nothing was changed: SQL only reads."""

    code = Code.QUERY

    def __init__(self, message: str, *, hint: str = "", code: Code = Code.QUERY) -> None:
        super().__init__(message, hint=hint)
        self.code = code
