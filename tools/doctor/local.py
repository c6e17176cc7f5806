"""What is found on this machine: a node's file and what it names, and the certificates of who asks."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.comparison import compare
from cluster.config import AnonymousAccess, NodeConfig, Off
from cluster.credentials import DAY_MS, day
from cluster.settings import Settings
from redwire.errors import RedwireError
from redwire.status import CERTIFICATE_SOON_DAYS, Status
from tools.doctor.facts import Facts, FileFacts, Paper
from tools.doctor.finding import Check, Finding, Level


def judge(facts: Facts) -> Iterator[Finding]:
    """Everything about files."""
    if facts.trust is not None:
        yield Finding(
            Check.CERTIFICATES,
            Level.ERROR,
            "the URI",
            facts.trust.message,
            "nobody was asked",
            facts.trust.hint,
        )
    yield from (_paper(paper, facts.now_ms) for paper in dict.fromkeys(facts.papers))
    if facts.file is not None:
        yield from _file(facts.file)
        config, view, told = facts.file.config, facts.view, facts.settings
        if config is not None and view is not None and told is not None:
            yield from _settings(facts.file.path, config, view, told)


def _paper(paper: Paper, now_ms: int) -> Finding:
    days = (paper.ends_at_ms - now_ms) // DAY_MS
    ends = f"{paper.what} ends in {days} days, on {day(paper.ends_at_ms)}"
    if paper.ends_at_ms <= now_ms:
        text = f"{paper.what} has expired on {day(paper.ends_at_ms)}"
        return Finding(Check.CERTIFICATES, Level.ERROR, paper.file, text, "nodes refuse it", paper.mend)
    if days < CERTIFICATE_SOON_DAYS:
        return Finding(Check.CERTIFICATES, Level.WARNING, paper.file, ends, "", paper.mend)
    return Finding(Check.CERTIFICATES, Level.OK, paper.file, ends)


def _file(file: FileFacts) -> Iterator[Finding]:
    again = f"redwire-node check --config {file.path}"
    if file.error is not None or file.config is None or file.inspection is None:
        what, mend = (file.error.message, file.error.hint) if file.error else ("it was not read", "")
        yield Finding(Check.CONFIG, Level.ERROR, file.path, what, "the node would not start", mend or again)
        return
    for error in file.inspection.errors:
        why = "the node would not start with it"
        yield Finding(Check.CONFIG, Level.ERROR, file.path, error.message, why, error.hint or again)
    for warning in file.inspection.warnings:
        yield Finding(Check.CONFIG, Level.WARNING, file.path, warning.what, "", warning.mend or again)
    for remark in file.inspection.remarks:
        yield Finding(Check.CONFIG, Level.OK, file.path, remark.what)
    yield from _habits(file.path, file.config)
    if not file.inspection.errors:
        node = file.config.node
        yield Finding(Check.CONFIG, Level.OK, file.path, f"{node.id} of {file.config.cluster.name} can start")
    for door in file.doors:
        if door.error:
            mend = f"open the way to {door.addr}, or name another one: node.dial in {file.path}"
            yield Finding(
                *(Check.PORTS, Level.ERROR, f"here to {door.member}", f"{door.addr} cannot be reached"),
                *(door.error, mend),
            )
        else:
            yield Finding(Check.PORTS, Level.OK, f"here to {door.member}", f"{door.addr} takes connections")


def _habits(path: str, config: NodeConfig) -> Iterator[Finding]:
    if isinstance(config.audit.file, Off):
        why = "nobody will know who came in and what was changed"
        yield Finding(Check.CONFIG, Level.WARNING, path, "audit is off", why, "remove audit.file: off")
    if config.auth.anonymous is not AnonymousAccess.OFF:
        what = f"auth.anonymous is {config.auth.anonymous}"
        why = "whoever reaches the port needs no name for it"
        yield Finding(
            Check.CONFIG, Level.WARNING, path, what, why, "auth: {anonymous: off}, and redwire user add"
        )


def _settings(
    path: str, config: NodeConfig, view: Status, told: Settings | RedwireError
) -> Iterator[Finding]:
    """The file against what is in force: the log's settings count, the file made them once."""
    if view.vantage.hides_others:
        return  # which is told once for all
    if isinstance(told, RedwireError):
        what, mend = "nobody said what is in force, so it was not held against that", told.hint
        yield Finding(Check.SETTINGS, Level.WARNING, path, what, told.message, mend or "redwire policy show")
        return
    if not told.lsn:
        return
    found = compare(config.cluster, [told.cluster])
    for difference in found.unheard:
        why, mend = "the log's settings are in force", f"write into {path} what is in the log"
        yield Finding(Check.SETTINGS, Level.WARNING, path, str(difference), why, mend)
    if not found.unheard:
        text = f"its section cluster says what is in force since LSN {told.lsn}"
        yield Finding(Check.SETTINGS, Level.OK, path, text)
