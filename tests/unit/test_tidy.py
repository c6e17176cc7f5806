"""The shape of the code, counted: sizes, names, and constructs that have one place or none."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("redwire", "regions", "cluster", "tools")

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
CLASS_METHODS_MAX = 20
CLASS_ATTRIBUTES_MAX = 12
LINE_CHARS_MAX = 110

FORBIDDEN_NAMES = frozenset(("utils", "util", "helpers", "helper", "common", "base", "manager", "misc"))
CATCH_ALL = frozenset(("cluster/main.py", "tools/cli/main.py"))
"""The outermost handlers: elsewhere an exception that nobody foresaw is a bug, and must look like one."""
LOOSE_TASKS = frozenset(("create_task", "ensure_future", "gather"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def lines_of(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def is_value(node: ast.ClassDef) -> bool:
    """Whether the class only holds facts: a frozen dataclass or a msgspec Struct."""
    frozen = any(
        isinstance(decorator, ast.Call)
        and "dataclass" in ast.unparse(decorator.func)
        and any(keyword.arg == "frozen" for keyword in decorator.keywords)
        for decorator in node.decorator_list
    )
    return frozen or any(ast.unparse(base).endswith("Struct") for base in node.bases)


def methods(node: ast.ClassDef) -> list[Function]:
    return [statement for statement in node.body if isinstance(statement, Function)]


def attributes(node: ast.ClassDef) -> set[str]:
    """Names assigned on `self` in any method, and fields (no `InitVar`) of the class body."""
    found = {
        statement.target.id
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and not re.match("ClassVar|InitVar", ast.unparse(statement.annotation))
    }
    for inner in (inner for method in methods(node) for inner in ast.walk(method)):
        if (
            isinstance(inner, ast.Attribute)
            and isinstance(inner.ctx, ast.Store)
            and isinstance(inner.value, ast.Name)
            and inner.value.id == "self"
        ):
            found.add(inner.attr)
    return found


def oversized(tree: ast.Module, name: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, Function) and lines_of(node) > FUNCTION_LINES_MAX:
            yield f"{name}:{node.lineno} {node.name} has {lines_of(node)} lines"
        elif isinstance(node, ast.ClassDef):
            if len(methods(node)) > CLASS_METHODS_MAX:
                yield f"{name}:{node.lineno} {node.name} has {len(methods(node))} methods"
            if not is_value(node) and len(attributes(node)) > CLASS_ATTRIBUTES_MAX:
                yield f"{name}:{node.lineno} {node.name} has {len(attributes(node))} attributes"


def catches_all(handler: ast.ExceptHandler) -> bool:
    """Whether it swallows what nobody foresaw. One that ends in a bare `raise` only cleans up."""
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)


def task_groups(tree: ast.Module) -> set[str]:
    """Names of what `async with asyncio.TaskGroup()` gives, there and where it is handed over."""
    entered = [item for node in ast.walk(tree) if isinstance(node, ast.AsyncWith) for item in node.items]
    made = {
        ast.unparse(item.optional_vars)
        for item in entered
        if item.optional_vars and ast.unparse(item.context_expr) == "asyncio.TaskGroup()"
    }
    handed = [node for node in ast.walk(tree) if isinstance(node, ast.arg) and node.annotation]
    return made | {node.arg for node in handed if ast.unparse(node.annotation) == "asyncio.TaskGroup"}


def in_task_group(called: ast.expr, groups: set[str]) -> bool:
    """Whether the task belongs to a group, which waits for it."""
    return isinstance(called, ast.Attribute) and ast.unparse(called.value) in groups


def misplaced(tree: ast.Module, name: str) -> Iterator[str]:
    groups = task_groups(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and catches_all(node) and name not in CATCH_ALL:
            yield f"{name}:{node.lineno} catches everything"
        elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            yield f"{name}:{node.lineno} imports *"
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in LOOSE_TASKS and not in_task_group(node.func, groups):
                yield f"{name}:{node.lineno} calls {called}"


def says(call: ast.expr, argument: str) -> bool:
    """Whether `call` is one with `argument=False`."""
    return isinstance(call, ast.Call) and any(
        keyword.arg == argument and ast.unparse(keyword.value) == "False" for keyword in call.keywords
    )


def is_dataclass(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called) in ("dataclass", "dataclasses.dataclass")


def slow_values(tree: ast.Module, name: str) -> Iterator[str]:
    """Values that are dataclasses without need: a msgspec Struct costs a fraction at import (ADR 10).

    Objects say that they are themselves and not their fields (`eq=False`). A value needs a dataclass if it
    checks or completes itself, or hides a field from its `repr` or `__init__`.
    """
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        decorator = next(filter(is_dataclass, node.decorator_list), None)
        if decorator is None or says(decorator, "eq"):
            continue
        checks = any(method.name == "__post_init__" for method in methods(node))
        defaults = [each.value for each in node.body if isinstance(each, ast.AnnAssign) and each.value]
        hides = any(says(default, "repr") or says(default, "init") for default in defaults)
        if not checks and not hides:
            yield f"{name}:{node.lineno} {node.name} is a dataclass for nothing: a Struct, or eq=False"


def test_files_functions_and_classes_stay_small() -> None:
    found = [
        f"{name_of(path)} has {lines} lines"
        for path in sources(*PACKAGES)
        if (lines := len(path.read_text().splitlines())) > FILE_LINES_MAX
    ]
    found += [line for path in sources(*PACKAGES) for line in oversized(parsed(path), name_of(path))]
    assert found == []


def test_lines_stay_short() -> None:
    assert [
        f"{name_of(path)}:{number} has {len(line)} characters"
        for path in sources(*PACKAGES, "tests", "examples")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > LINE_CHARS_MAX
    ] == []


def test_a_module_is_named_for_a_noun() -> None:
    assert [
        name_of(path)
        for path in sources(*PACKAGES)
        if FORBIDDEN_NAMES & {path.stem, *path.relative_to(ROOT).parent.parts}
    ] == []


def test_a_module_opens_with_what_it_is_for() -> None:
    assert [name_of(path) for path in sources(*PACKAGES) if not ast.get_docstring(parsed(path))] == []


def test_catch_alls_loose_tasks_and_star_imports_have_no_place() -> None:
    assert [line for path in sources(*PACKAGES) for line in misplaced(parsed(path), name_of(path))] == []


def test_a_value_is_a_struct_unless_it_needs_what_only_dataclasses_have() -> None:
    assert [line for path in sources(*PACKAGES) for line in slow_values(parsed(path), name_of(path))] == []


def test_tests_form_no_package() -> None:
    assert [name_of(path) for path in sources("tests") if path.name == "__init__.py"] == []


TEXT = frozenset((".py", ".md", ".toml", ".txt", ".cfg", ".ini", ".yaml", ".yml", ".json", ".sh", ""))
REGISTRY = re.compile(r"(?i)p[y]pi\.org|p[y]thonhosted\.org|n[p]mjs\.org|c[r]ates\.io|/s[i]mple/\w")
MACHINE_PATH = re.compile(r"(?<![\w.~$}-])/(?:work|root|home)/")


def tracked() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_package_registry_or_a_path_of_one_machine() -> None:
    assert [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in tracked()
        if path.suffix in TEXT
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if REGISTRY.search(line) or MACHINE_PATH.search(line)
    ] == []


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.+!]*", line)] == []


MODULES = {"prometheus-client": "prometheus_client", "pyyaml": "yaml"}
"""Distributions whose module has another name."""


def third_party_imports() -> set[str]:
    found = set()
    for path in sources(*PACKAGES):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - set(PACKAGES)


def test_a_dependency_is_declared_when_and_only_when_it_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=~!\[ ]", line)[0].lower() for line in project["dependencies"]]
    assert third_party_imports() == {MODULES.get(name, name) for name in names}
    for line in project["optional-dependencies"]["fast"]:
        name = re.split(r"[<>=~!\[ ]", line)[0]
        assert f'find_spec("{name}")' in (ROOT / "cluster/main.py").read_text()


def test_the_limits_bite() -> None:
    long_function = "def f():\n" + "    pass\n" * FUNCTION_LINES_MAX
    wide_class = "class C:\n    def f(self):\n" + "".join(f"        self.a{n} = 0\n" for n in range(13))
    value_class = "@dataclass(frozen=True)\nclass C:\n" + "".join(f"    a{n}: int\n" for n in range(13))
    assert list(oversized(ast.parse(long_function), "x")) == ["x:1 f has 51 lines"]
    assert list(oversized(ast.parse(wide_class), "x")) == ["x:1 C has 13 attributes"]
    assert list(oversized(ast.parse(value_class), "x")) == []
    caught = "try:\n    pass\nexcept (OSError, Exception):\n    asyncio.gather()\nfrom x import *"
    assert len(list(misplaced(ast.parse(caught), "x"))) == 3
    assert len(list(misplaced(ast.parse(caught), "cluster/main.py"))) == 2
    cleaned = "try:\n    pass\nexcept BaseException:\n    close()\n    raise"
    assert list(misplaced(ast.parse(cleaned), "x")) == []
    for words, found in {
        "@dataclass\nclass C:\n    a: int": 1,
        "@dataclasses.dataclass(frozen=True)\nclass C:\n    a: int = field(default=1, repr=True)": 1,
        "@dataclass(frozen=True)\nclass C:\n    a: int\n    def __post_init__(self): ...": 0,
        "@dataclass(frozen=True)\nclass C:\n    a: str = field(repr=False)": 0,
        "@dataclass(frozen=True)\nclass C:\n    a: str = field(init=False)": 0,
        "@dataclass(slots=True, eq=False)\nclass C:\n    a: int": 0,
        "class C(msgspec.Struct):\n    a: int": 0,
    }.items():
        assert len(list(slow_values(ast.parse(words), "x"))) == found
    assert REGISTRY.search("https://{}pi.org/project/x".format("py"))
    assert MACHINE_PATH.search("see {}/x".format("/root"))
