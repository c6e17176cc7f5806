"""Everything that the tools raise beside the errors of the packages below.

RedwireError
└── ToolError
    ├── AuthorityInvalid      the files of a certificate authority are missing, damaged or another cluster's
    ├── NameInvalid           a name that cannot stand in a certificate
    ├── FileStands            a file that is never replaced stands where a new one should be written
    ├── RoleAbove             a token that should do more than the user for whom it acts
    ├── LinkInvalid           a delay link that cannot be what was asked for
    ├── DurationInvalid       a length of time that cannot be read, or cannot be what it is meant for
    ├── RttInvalid            a round trip that cannot be, or between regions that are not there
    ├── PromiseEmpty          a commit policy under which one disk may take a confirmed write with it
    ├── DocumentMissing       a document that is not there, or not any more
    ├── LoadRuns              a file that another load is at work on
    ├── LineInvalid           a line of a file that cannot be loaded; what stands before it may be
    ├── LoadStopped           a load that has written something, and came no further
    ├── ScanStopped           a scan that has printed something, and came no further
    ├── BenchImpossible       a measurement that would say nothing here, or cannot be made
    ├── PlanInvalid           a cluster that cannot be, or a region or pair of regions that is not in it
    ├── ClusterRuns           a cluster runs, or is being started, where another one should be
    ├── ClusterMissing        no cluster is where one was looked for, or not the process that was named
    ├── NodeNotReady          a process that was started does not do what it should
    └── Interrupted           the user ended a command; says how far it came
"""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator

from redwire.errors import RedwireError
from redwire.record import Key


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, however deep task groups have wrapped them; any other one is alone."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


class ToolError(RedwireError):
    """A tool cannot do what it was asked to do."""


class AuthorityInvalid(ToolError):
    """The files of a certificate authority cannot be used."""


class NameInvalid(ToolError):
    """A cluster, node, user or host name that cannot stand in a certificate."""


class FileStands(ToolError):
    """A file that is never replaced stands in the way; nothing was written."""


class RoleAbove(ToolError):
    """A token was to have a role above that of its user; no token was made."""


class LinkInvalid(ToolError):
    """A link that is described or commanded in a way it cannot be."""


class DurationInvalid(ToolError):
    """A length of time that cannot be read, or that its setting cannot have."""


class RttInvalid(ToolError):
    """A round trip time between two regions that cannot be read or cannot be."""


class PromiseEmpty(ToolError):
    """A commit policy whose promise is empty: a confirmed write may be lost with one node."""


class DocumentMissing(ToolError):
    """There is no document under an id."""


class LoadRuns(ToolError):
    """Another load is at work on the same file, and on its bookmark; nothing was written."""


class LineInvalid(ToolError):
    """A line of a file that is to be loaded is no document, or one that the cluster does not take. `line`
    counts from 1; None where the whole file is not what it should be.
    """

    def __init__(self, file: str, line: int | None, reason: str, *, hint: str = "") -> None:
        where = file if line is None else f"{file}: line {line}:"
        facts: dict[str, object] = {"file": file} if line is None else {"file": file, "line": line}
        super().__init__(f"{where} {reason}", hint=hint, facts=facts)


class LoadStopped(ToolError):
    """A load that came no further for a `reason` which says that nothing was written: before it something
    was.
    """

    def __init__(self, reason: RedwireError) -> None:
        super().__init__(reason.message, hint=reason.hint, facts=reason.facts)
        self.without_code = reason.without_code
        self.reason = reason

    @property
    def name(self) -> str:
        """That of the reason."""
        return self.reason.name


class ScanStopped(ToolError):
    """A scan that came no further for `reason`, after it had printed documents up to the id `after`."""

    def __init__(self, collection: str, after: str, reason: RedwireError) -> None:
        text = f"stopped after {collection}/{after}: {reason.message}"
        hint = f"go on with the same command and --after {shlex.quote(after)}"
        super().__init__(text, hint=hint, facts=reason.facts | {"after": after})
        self.reason = reason

    @property
    def name(self) -> str:
        """That of the reason."""
        return self.reason.name


class PlanInvalid(ToolError):
    """A cluster that cannot be made as it is described, or a name that does not occur in it."""


class ClusterRuns(ToolError):
    """A cluster runs here already, or a folder belongs to something else."""


class ClusterMissing(ToolError):
    """There is no cluster here, or it does not run."""


class NodeNotReady(ToolError):
    """A node or its links were started and do not serve."""


class BenchImpossible(ToolError):
    """Something cannot be measured here, or what came out would mean nothing."""


class Interrupted(ToolError):
    """Ctrl-C, or another signal `number`. `key` is that of a write whose outcome is not known."""

    key: Key | None = None

    def __init__(self, message: str, *, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number
