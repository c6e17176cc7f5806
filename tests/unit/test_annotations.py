"""Whoever asks for the types of a public name gets them: all that its annotations name can be found."""

from __future__ import annotations

import ast
import inspect
import typing
from collections.abc import Iterator
from types import ModuleType

import pytest

import cluster
import redwire
import regions


def annotated(value: object) -> Iterator[object]:
    """A function, or a class with what it makes public and how it is made."""
    if inspect.isfunction(value):
        yield value
    elif inspect.isclass(value):
        yield value
        for name, member in inspect.getmembers(value):
            if name == "__init__" or not name.startswith("_"):
                function = member.fget if isinstance(member, property) else member
                if inspect.isroutine(function) and hasattr(function, "__annotations__"):
                    yield function


@pytest.mark.parametrize(
    ("package", "name"),
    [
        pytest.param(package, name, id=f"{package.__name__}.{name}")
        for package in (redwire, regions, cluster)
        for name in package.__all__
    ],
)
def test_every_annotation_of_a_public_name_can_be_resolved(package: object, name: str) -> None:
    for each in annotated(getattr(package, name)):
        typing.get_type_hints(each)


@pytest.mark.parametrize("package", [redwire, regions, cluster], ids=lambda package: package.__name__)
def test_a_name_that_a_package_does_not_have_is_an_error_for_type_checkers(package: ModuleType) -> None:
    """A module's `__getattr__` that they can see gives every name there is, also a misspelt one."""
    functions = [
        node.name for node in ast.parse(inspect.getsource(package)).body if isinstance(node, ast.FunctionDef)
    ]
    assert "__getattr__" not in functions
    with pytest.raises(AttributeError, match="no attribute 'Conflicts'"):
        package.Conflicts  # noqa: B018
