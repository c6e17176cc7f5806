"""Pure modules decide and do nothing else: what they may import is a short list."""

from __future__ import annotations

import ast
import tomllib
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("redwire", "regions", "cluster")

PURE = tuple(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["run"]["include"])
"""One table for two readers: the same modules are held to their branch coverage. All others are shells."""

STANDARD = frozenset(
    (
        *(
            "__future__",
            "typing",
            "dataclasses",
            "enum",
            "collections",
            "ipaddress",
            "itertools",
            "functools",
            "bisect",
            "heapq",
        ),
        *("struct", "zlib", "hashlib", "hmac", "base64", "binascii", "json", "math", "re", "urllib.parse"),
    )
)
THIRD_PARTY = frozenset(("cbor2", "msgspec", "zstandard"))


def modules() -> list[str]:
    """Every module of the three packages, package roots left out: they only re-export."""
    found = (
        path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    )
    return sorted(name for name in found if not name.endswith("/__init__.py"))


@cache
def is_pure(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in PURE)


def imports(source: str) -> list[tuple[int, str]]:
    """(line, imported module) of everything that `source` imports when it runs."""
    tree = ast.parse(source)
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(inner for statement in node.body for inner in ast.walk(statement))
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.extend((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if (ROOT / module.replace(".", "/")).is_dir():
                found.extend((node.lineno, f"{module}.{alias.name}") for alias in node.names)
            else:
                found.append((node.lineno, module))
    return found


def allowed(imported: str) -> bool:
    top = imported.partition(".")[0]
    if top in PACKAGES:
        return is_pure(imported.replace(".", "/") + ".py")
    if imported in STANDARD or top in THIRD_PARTY:
        return True
    return top in STANDARD and top != "urllib"


def strange(name: str) -> list[str]:
    """What the module imports that a pure one may not."""
    found = imports((ROOT / name).read_text())
    return [f"{name}:{line} imports {module}" for line, module in found if not allowed(module)]


@pytest.mark.parametrize("name", [name for name in modules() if is_pure(name)])
def test_a_pure_module_imports_only_what_is_pure(name: str) -> None:
    assert strange(name) == []


def test_a_module_that_is_pure_stands_in_the_table() -> None:
    assert [name for name in modules() if not is_pure(name) and not strange(name)] == []


def test_the_table_names_no_module_that_is_gone() -> None:
    present = modules()
    assert [entry for entry in PURE if not any(fnmatch(name, entry) for name in present)] == []


@pytest.mark.parametrize(
    ("source", "fine"),
    [
        ("import zlib", True),
        ("import collections.abc", True),
        ("from urllib.parse import quote", True),
        ("from redwire import frame", True),
        ("from redwire.frame import Frame", True),
        ("if TYPE_CHECKING:\n    import random", True),
        ("import urllib.request", False),
        ("import random", False),
        ("import anyio", False),
        ("def late():\n    import time", False),
        ("from redwire import Client", False),
        ("import redwire", False),
        ("from redwire.stream import Stream", False),
        ("from cluster.yaml_file import load", False),
    ],
)
def test_the_check_tells_pure_imports_from_others(source: str, fine: bool) -> None:
    assert all(allowed(module) for _, module in imports(source)) is fine
