"""What a check found: how bad, what, where, why, and what to type against it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import asdict


class Level(StrEnum):
    """OK: nothing to do. WARNING: it works, and somebody should act. ERROR: something does not work now."""

    ERROR = "error"
    WARNING = "warning"
    OK = "ok"


class Check(StrEnum):
    """What is looked at, in the order in which it is told."""

    CONFIG = "config"
    SETTINGS = "settings"
    PORTS = "ports"
    PAIRS = "pairs"
    LEADER = "leader"
    QUORUM = "quorum"
    NODES = "nodes"
    SINGLE_POINTS = "single_points"
    SLOTS = "slots"
    DISKS = "disks"
    CLOCKS = "clocks"
    CERTIFICATES = "certificates"
    VERSIONS = "versions"


class Finding(msgspec.Struct, frozen=True):
    """One answer of one check. `where` is a node, a file, a pair, or the cluster. `why`, `mend` may be ""."""

    check: Check
    level: Level
    where: str
    what: str
    why: str = ""
    mend: str = ""

    def lines(self) -> list[str]:
        """As people read it: what, and below it why and the mend."""
        told = [f"{self.level:<7}  {self.check:<13}  {self.where}: {self.what}"]
        indent = " " * 9
        for name, text in (("why", self.why), ("mend", self.mend)):
            if text:
                told.append(f"{indent}{name:<13}  {text}")
        return told


def or_fine(findings: Iterable[Finding], check: Check, where: str, what: str) -> list[Finding]:
    """`findings`, or that there is nothing to find, which is `what`."""
    return list(findings) or [Finding(check, Level.OK, where, what)]


def sort(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, then in the order of the checks."""
    levels, checks = list(Level), list(Check)
    return sorted(findings, key=lambda found: (levels.index(found.level), checks.index(found.check)))


def count(findings: Sequence[Finding], level: Level) -> int:
    """How many there are of one level."""
    return sum(found.level is level for found in findings)


def document(findings: Sequence[Finding]) -> dict[str, Any]:
    """The JSON document: its keys are always there, and texts may be empty."""
    return {
        "ok": not count(findings, Level.ERROR),
        "errors": count(findings, Level.ERROR),
        "warnings": count(findings, Level.WARNING),
        "findings": [asdict(found) for found in findings],
    }


def text(findings: Sequence[Finding]) -> str:
    """All findings, and how many are bad."""
    lines = [line for found in findings for line in found.lines()]
    errors, warnings = count(findings, Level.ERROR), count(findings, Level.WARNING)
    return "\n".join([*lines, "", f"{_counted(errors, 'error')}, {_counted(warnings, 'warning')}"])


def _counted(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
