"""Reads plain data (dicts, lists, scalars) into closed Structs; says where it is wrong and what would fit.

The types are the schema: a field's annotation says what fits, its `msgspec.Meta(description=...)` says so in
words, and its default, if it has one, makes the key optional. `msgspec.convert` alone would name neither the
index of a list's item nor the key that was meant. A type with a `parse` class method is read from its text
form; `parse` raises a `ValueError` or a `RedwireError` that says what would be right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec

from redwire.errors import ConfigInvalid, RedwireError
from redwire.spelling import guess

S = TypeVar("S", bound=msgspec.Struct)
Refuse = Callable[[str, str, str], ConfigInvalid]
"""Makes the error for (path, message, hint)."""


_UNIONS = (Union, get_origin(int | None))
_NOTHING = type(None)


def read(kind: type[S], data: object, file: str, path: str = "") -> S:
    """`data` as a `kind`. Raises `ConfigInvalid`, which names `file` and the place below `path`: the first,
    and as its `others` the rest of what is wrong. What may be missing beside an unknown key is not told: that
    is mostly the key that was meant.
    """

    def refuse(where: str, message: str, hint: str = "") -> ConfigInvalid:
        return ConfigInvalid(file, where, message, hint=hint)

    return _struct(kind, data, path, refuse)


def _struct(kind: type[S], data: object, path: str, refuse: Refuse) -> S:
    fields = _fields(kind)
    if not isinstance(data, dict):
        raise refuse(path, f"expected a mapping with {', '.join(fields)}, not {shown(data)}", "")
    unknown = [_unknown_key(key, fields, data, path, refuse) for key in data if key not in fields]
    wrong, values = _Findings(unknown), {}
    for name, field in fields.items():
        where = f"{path}.{name}" if path else name
        if name in data:
            with wrong:
                values[field.name] = _value(field.type, data[name], where, refuse)
        elif field.required and not unknown:
            wrong.add(refuse(where, "is missing", ""))
    wrong.tell()
    return kind(**values)


class _Findings:
    """What is wrong in one mapping or list. What goes wrong inside a `with` is one more, and does not keep
    the rest from being looked at.
    """

    def __init__(self, errors: Iterable[ConfigInvalid] = ()) -> None:
        self._errors = [*errors]

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, ConfigInvalid):
            return False
        self._errors.append(error)
        return True

    def add(self, error: ConfigInvalid) -> None:
        """One more."""
        self._errors.append(error)

    def tell(self) -> None:
        """Raises the first one, which has all others; returns where there is none."""
        if not self._errors:
            return
        first, *others = [each for error in self._errors for each in (error, *error.others)]
        for other in others:
            other.others = ()
        first.others = tuple(others)
        raise first


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """By their names in the data. Kept, since to evaluate the annotations takes longer than all the rest."""
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _unknown_key(
    key: object, fields: Iterable[str], data: object, path: str, refuse: Refuse
) -> ConfigInvalid:
    where = f"{path}.{key}" if path else str(key)
    assert isinstance(data, dict)
    free = [name for name in fields if name not in data]
    return refuse(where, "unknown key", guess(str(key), free, f"valid keys: {', '.join(fields)}"))


def _value(kind: Any, data: object, path: str, refuse: Refuse) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in _UNIONS:
        return _union(arguments, data, path, refuse)
    if origin is tuple:
        return _items(arguments[0], data, path, refuse)
    if origin is dict:
        return _mapping(arguments[0], arguments[1], data, path, refuse)
    if isinstance(kind, type):
        if issubclass(kind, msgspec.Struct):
            return _struct(kind, data, path, refuse)
        if issubclass(kind, Enum):
            return _choice(kind, data, path, refuse)
        if hasattr(kind, "parse"):
            return _text(kind, data, path, refuse)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        hint = "quote it" if isinstance(data, bool) and "str" in str(error) else ""
        raise refuse(path, f"expected {_described(kind)}, not {shown(data)}", hint) from error


def _union(kinds: tuple[Any, ...], data: object, path: str, refuse: Refuse) -> Any:
    """Of a union, the member that fits by its shape: nothing, a mapping, or one value."""
    if data is None and _NOTHING in kinds:
        return None
    words = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)), None)
    if words is not None and _word(data) in [member.value for member in words]:
        return _choice(words, data, path, refuse)
    structs = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    others = [kind for kind in kinds if kind is not _NOTHING and kind not in structs]
    if not structs or others and not isinstance(data, dict | _NOTHING):
        return _value(others[0], data, path, refuse)
    if others and data is None:
        raise refuse(path, f"is empty: expected a mapping or {_described(others[0])}", "")
    return _value(structs[0], data, path, refuse)


def _items(kind: Any, data: object, path: str, refuse: Refuse) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise refuse(path, f"expected a list, not {shown(data)}", "")
    items, wrong = [], _Findings()
    for index, item in enumerate(data):
        with wrong:
            items.append(_value(kind, item, f"{path}[{index}]", refuse))
    wrong.tell()
    return tuple(items)


def _mapping(key_kind: Any, kind: Any, data: object, path: str, refuse: Refuse) -> dict[Any, Any]:
    if not isinstance(data, dict):
        raise refuse(path, f"expected a mapping, not {shown(data)}", "")
    read, wrong = {}, _Findings()
    for key, item in data.items():
        where = f"{path}.{key}"
        with wrong:
            read[_value(key_kind, key, where, refuse)] = _value(kind, item, where, refuse)
    wrong.tell()
    return read


def _choice(kind: type[Enum], data: object, path: str, refuse: Refuse) -> Enum:
    choices = {str(member.value): member for member in kind}
    word = _word(data)
    if isinstance(word, str) and word in choices:
        return choices[word]
    hint = guess(word, choices) if isinstance(word, str) else ""
    raise refuse(path, f"expected {_described(kind)}, not {shown(data)}", hint)


def _word(data: object) -> object:
    if isinstance(data, bool):
        return "on" if data else "off"  # YAML reads them so where they stand bare
    return data


def _text(kind: Any, data: object, path: str, refuse: Refuse) -> Any:
    if not isinstance(data, str):
        raise refuse(path, f"expected text, not {shown(data)}", "quote it")
    try:
        return kind.parse(data)
    except RedwireError as error:
        raise refuse(path, error.message, error.hint) from error
    except ValueError as error:
        raise refuse(path, str(error), "") from error


def _described(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        return str(get_args(kind)[1].description)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(str(member.value) for member in kind)
    return {str: "text", int: "a whole number", bool: "true or false"}[kind]


def shown(data: object) -> str:
    """A value as an error names it: short, and in the words of the file it came from."""
    if data is None:
        return "nothing"
    if isinstance(data, bool):
        return str(data).lower()
    if isinstance(data, dict | list | tuple):
        return "a mapping" if isinstance(data, dict) else "a list"
    text = repr(data)
    return text if len(text) <= 60 else f"{text[:57]}..."
