"""Reads a YAML file into plain data, strictly: a key given twice is an error, not a silent last word."""

from __future__ import annotations

import os
from collections.abc import Hashable
from typing import Any

import yaml

from cluster.files import open_file
from redwire.errors import ConfigInvalid

FILE_BYTES_MAX = 1 << 20
"""A configuration is written by hand; a larger file is a mistake in the path."""


def load_yaml(file: str) -> object:
    """The plain data in `file`: dicts, lists, text, numbers, booleans, None.

    Raises `ConfigInvalid`, with line and column where there is one: a file that cannot be read, is no YAML,
    names a key twice, or uses anchors.
    """
    try:
        with open(file, "rb", opener=open_file) as opened:
            os.set_blocking(opened.fileno(), True)  # a pipe that somebody writes is waited for, no other one
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigInvalid(file, "", f"cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigInvalid(
            file, "", f"is larger than {FILE_BYTES_MAX} bytes", hint="is this the right file?"
        )
    try:
        return yaml.load(data, _StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigInvalid(file, where, str(error.problem or error.context)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigInvalid(file, "", f"is no YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigInvalid(file, "", "is nested too deeply", hint="is this the right file?") from error


class _StrictLoader(yaml.SafeLoader):
    """The safe loader without aliases (ten lines of them expand to gigabytes) and without second keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not used here", mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The library has words for what is no YAML, and none for a value that its tag does not fit, such as
        a day that no calendar has; whole numbers it reads at any length, and Python then does not write them.
        """
        try:
            value = super().construct_object(node, deep)
            if isinstance(node, yaml.ScalarNode):
                str(value).encode()
        except (ValueError, LookupError, AttributeError) as error:
            kind = node.tag.rpartition(":")[2]
            problem = f"this is no {kind} that can be read: quote it, if it is text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[object, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, Hashable) and seen.setdefault(key, line) != line:
                problem = f"the key {key!r} is given twice, first on line {seen[key]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        return super().construct_mapping(node, deep)
