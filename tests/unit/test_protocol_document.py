"""docs/PROTOCOL.md says of values and statements what a client in another language has to know."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import cast

from cluster import sql
from redwire.message.params import (
    Json,
    LegacyValue,
    Param,
    ParamQuery,
    Timestamp,
    Uuid,
    Vector,
    encode_binary_result,
)
from redwire.record import Op, Record, check_write, encode_record, encode_write

PROTOCOL = (Path(__file__).parents[2] / "docs" / "PROTOCOL.md").read_text()
TABLE = PROTOCOL[PROTOCOL.index("| value | tag in 28 |") : PROTOCOL.index("There are no streams.")]
TAGS = re.findall(r"^\| (?!value|-)([^|]+) \| (\d\d)? ?\| (\d\d)? ?\|", TABLE, re.MULTILINE)
PARAMS: dict[str, Param] = {
    "null": None,
    "truth": True,
    "whole number": -(1 << 63),
    "floating point": 0.5,
    "text": "x",
    "bytes": b"x",
    "vector": Vector((1.0, 2.0)),
    "JSON": Json("[]"),
    "time": Timestamp(-1),
    "UUID": Uuid(bytes(range(16))),
}
OLDER = {
    "null": None,
    "truth": True,
    "whole number": -1,
    "the same": 1 << 63,
    "floating point": 0.5,
    "text": "x",
}


def tag_of_param(value: Param) -> str:
    return f"{ParamQuery('', (value,)).encode()[8]:02x}"


def tag_of_older(value: LegacyValue) -> str:
    names = encode_binary_result(["c"], [])
    return f"{encode_binary_result(['c'], [[value]])[len(names)]:02x}"


def test_the_tags_of_values_are_those_of_the_code() -> None:
    assert {name: tag for name, tag, _ in TAGS if tag} == {
        name: tag_of_param(value) for name, value in PARAMS.items()
    }
    assert {name: tag for name, _, tag in TAGS if tag} == {
        name: tag_of_older(cast(LegacyValue, value)) for name, value in OLDER.items()
    }


def test_a_statement_may_be_what_the_code_allows() -> None:
    text = " ".join(PROTOCOL.split())
    pattern = r"at most (\d+) columns, (\d+) SELECTs[^,]*, expressions (\d+) deep, and LIKE patterns of (\d+)"
    said = re.search(pattern, text)
    assert said is not None
    limits = (
        sqlite3.SQLITE_LIMIT_COLUMN,
        sqlite3.SQLITE_LIMIT_COMPOUND_SELECT,
        sqlite3.SQLITE_LIMIT_EXPR_DEPTH,
        sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH,
    )
    assert [int(number) for number in said.groups()] == [sql._LIMITS[limit] for limit in limits]


def test_a_document_as_deep_as_goes_for_certain_goes() -> None:
    said = re.search(r"may stand (\d+) deep inside each other for certain", PROTOCOL)
    assert said is not None
    inside = int(said[1]) - 1  # the document is an object itself
    document = b'{"a":' + b"[" * inside + b"]" * inside + b"}"
    check_write(encode_write([encode_record(Record(Op.PUT, "c", "k", document))]))
