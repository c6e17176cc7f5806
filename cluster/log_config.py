"""How a node's log of words looks, and how loud its words are: the section `log` of node.yaml."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec


class Level(StrEnum):
    """How much a line of the log matters, from least to most."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """`text` for people, `json` for programs: one object a line."""

    TEXT = "text"
    JSON = "json"


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What of the log is written to standard error, and how."""

    format: LogFormat = LogFormat.TEXT
    level: Level = Level.INFO


class Note(Protocol):
    """Says something in the node's log. Never waits, never raises."""

    def __call__(self, text: str, level: Level = Level.INFO) -> None: ...


class Log(Note, Protocol):
    """The whole log of a node: what says things in it, and how much of it never got out."""

    @property
    def lost(self) -> int:
        """Lines that were dropped since the log began."""
