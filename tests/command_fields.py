"""The tables of docs/COMMANDS.md, held against what verbs print with `--json`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from tools.cli.main import redwire

DOCS = Path(__file__).parents[1] / "docs"
COMMANDS = (DOCS / "COMMANDS.md").read_text()
STATUS = (DOCS / "OPERATIONS.md").read_text().partition("## The status document")[2]
PYTHON: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "number": (int, float),
    "bool": bool,
    "texts": list,
    "null": type(None),
    "any": object,
}
"""What the values of a type are. Any other type is an object."""
NESTED = {"settings": "policy show"}
"""Types that are what a verb prints."""
OPAQUE = ("receipt", "document", "facts", "any")
"""Types of which the part of a verb says no more."""


@dataclass
class Section:
    """What the document says of some verbs: the type of each field. `seen` are those that were printed."""

    fields: dict[str, str]
    seen: set[str] = field(default_factory=set)

    def check(self, value: Any, path: str = "") -> None:
        """All that a verb has printed, `value` at `path`, is documented, and is what it is said to be."""
        name = next((each for each in self.fields if like(each).fullmatch(path)), None)
        types = ["object"] if name is None else self.fields[name].split(" or ")
        if name is not None:
            self.seen.add(name)
            assert any(is_a(value, each) for each in types), (path, value, types)
        match value:
            case dict() if types[0] in NESTED:
                SECTIONS[NESTED[types[0]]].check(value)
            case dict() if types[0] not in OPAQUE:
                for key, each in value.items():
                    self.check(each, f"{path}.{key}" if path else key)
            case list() if types[0] not in ("texts", *OPAQUE):
                assert self._has_list(f"{path}[]"), f"{path}[] is in no table"
                for each in value:
                    self.check(each, f"{path}[]")
            case str() | int() | float() | None:
                assert name is not None, f"{path} is in no table"
            case _:
                pass

    def _has_list(self, path: str) -> bool:
        """Whether a field is an entry of the list at `path`, or in one."""
        heads = (name[: end.end()] for name in self.fields for end in re.finditer(r"\[\]", name))
        return any(like(head).fullmatch(path) for head in heads)


def like(name: str) -> re.Pattern[str]:
    """What the paths of a field look like, in which `*` may be any key."""
    return re.compile(re.escape(name).replace(r"\*", r"[^.\[\]]+"))


def is_a(value: object, word: str) -> bool:
    """Whether a value is of the type that the document calls by this word."""
    if word == "texts":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if word == "number" and isinstance(value, bool):
        return False
    return isinstance(value, PYTHON.get(word, dict))


def verbs(group: click.Group = redwire, before: str = "") -> Iterator[str]:
    """Every verb that takes `--json`, in the order of the help."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from verbs(command, f"{before}{name} ")
        elif command is not None and any("--json" in each.opts for each in command.params):
            yield f"{before}{name}"


def _named(heading: str) -> Iterator[str]:
    """The verbs of a heading: in `dev cut`, `slow` the second one is in the group of the first."""
    group = ""
    for words in re.findall(r"`([^`]+)`", heading):
        verb = words.removeprefix("redwire ") if words.startswith("redwire ") else f"{group}{words}"
        group = "".join(verb.rpartition(" ")[:2])
        yield verb


def _sections() -> dict[str, Section]:
    found: dict[str, Section] = {}
    parts = re.split(r"^##+ (.+)$", COMMANDS, flags=re.MULTILINE)
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        if not heading.startswith("`"):
            continue
        section = Section(dict(re.findall(r"^\| `([^`]+)` \| ([a-z ]+) \| [^|]+ \|$", text, re.MULTILINE)))
        assert text.count("\n| `") == len(section.fields), heading
        if base := re.match(r"\n*The fields of `([^`]+)`, and", text):
            section.fields = found[base[1]].fields | section.fields
        found |= dict.fromkeys(_named(heading), section)
    names = re.findall(r"^\| `([a-z]+[^`]*)` \| [^|]+ \| [^|]+ \|$", STATUS, re.MULTILINE)
    found["status"].fields = found["lag"].fields = dict.fromkeys(names, "any")
    events = (name.partition("events[].")[2] for name in names)
    found["events"].fields = dict.fromkeys(filter(None, events), "any")
    return found


SECTIONS = _sections()
"""By verb; verbs that share a part share one."""
