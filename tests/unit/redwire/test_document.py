"""Documents on their way into records: the fast way and the checked way make the same bytes."""

from __future__ import annotations

import json
import math
from collections import ChainMap, UserDict
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redwire import record
from redwire.document import PIECE_BYTES_SOFT, Document, cut, encode_record, encode_rows
from redwire.errors import RequestInvalid, TooLarge
from redwire.position import ClusterId, Lsn, Term, Token
from redwire.record import DOC_BYTES_MAX, Op, Record

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from([Op.PUT, Op.INSERT]),
    st.text(min_size=1, max_size=20).filter(lambda text: "\0" not in text),
    st.dictionaries(st.text(), VALUES, max_size=4),
    st.none() | st.integers(0, 1 << 40),
)
def test_a_mapping_becomes_a_record_that_every_check_accepts(op, ident, value, version) -> None:
    version = None if op is Op.INSERT else version
    data = encode_record(op, "products", ident, value, version)
    request = record.decode_write(memoryview(record.encode_write([data])))
    (decoded,) = request.records
    assert (decoded.op, decoded.collection, decoded.id, decoded.version) == (op, "products", ident, version)
    assert Document("x", 1, decoded.doc, token()).value == value
    assert data == record.encode_record(Record(op, "products", ident, decoded.doc, version))


def token() -> Token:
    return Token(ClusterId("ab" * 16), Term(1), Lsn(1))


def test_bytes_are_stored_as_they_are_and_a_delete_has_none() -> None:
    assert encode_record(Op.PUT, "c", "a", b'{ "x":1}').endswith(b'{ "x":1}')
    assert encode_record(Op.DELETE, "c", "a", None) == record.encode_record(Record(Op.DELETE, "c", "a"))


@pytest.mark.parametrize(
    ("collection", "ident", "document"),
    [
        (".hidden", "a", {}),
        ("sqlite_x", "a", {}),
        ("a/b", "a", {}),
        ("c", "", {}),
        ("c", "a\0b", {}),
        ("c", "\ud800", {}),
        ("c", "x" * 513, {}),
        ("c", "a", []),
        ("c", "a", "{}"),
        ("c", "a", {"x": object()}),
        ("c", "a", {"x": "\ud800"}),
        ("c", "a", b"[]"),
        ("c", "a", b"{"),
        ("c", "", b"{}"),
        ("\ud800", "a", b"{}"),
        ("c", "a", b" " * (DOC_BYTES_MAX + 1)),
    ],
)
def test_what_no_node_would_take_is_refused_here(collection, ident, document) -> None:
    with pytest.raises(RequestInvalid) as refused:
        encode_record(Op.PUT, collection, ident, document)
    assert refused.value.record is None and "record" not in f"{refused.value} {refused.value.facts}"


def test_a_delete_that_no_node_would_take_is_refused_here() -> None:
    for collection, ident in [("c", ""), ("\ud800", "a")]:
        with pytest.raises(RequestInvalid) as refused:
            encode_record(Op.DELETE, collection, ident, None)
        assert refused.value.record is None and "record" not in f"{refused.value} {refused.value.facts}"


@dataclass
class Reading:
    celsius: float


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"a": math.nan}, r"nan at \.a;"),
        ({"a": None, "b": [1, {"c": -math.inf}]}, r"-inf at \.b\[1\]\.c;"),
        ({"a": (1.0, math.inf)}, r"inf at \.a\[1\];"),
        ({"r": [Reading(1.0), Reading(math.nan)]}, r"nan at \.r\[1\]\.celsius;"),
        (MappingProxyType({"a": UserDict({"b": [math.inf]})}), r"inf at \.a\.b\[0\];"),
        ({"a": ChainMap({"c": 1.0}, {"b": math.nan})}, r"nan at \.a\.b;"),
        ({"a": [type("Fraction", (float,), {})("nan")]}, r"nan at \.a\[0\];"),
    ],
)
def test_a_number_that_json_does_not_have_is_refused_with_its_place(document, says) -> None:
    with pytest.raises(RequestInvalid, match=says):
        encode_record(Op.PUT, "c", "a", document)
    with pytest.raises(RequestInvalid, match=f"record 1: .*{says}"):
        encode_rows(Op.INSERT, "c", [{}, document])


def test_a_mapping_of_any_make_is_an_object_at_any_depth() -> None:
    inner = ChainMap({"c": None}, {"b": MappingProxyType({"d": [UserDict(e=1)]})})
    data = encode_record(Op.PUT, "c", "a", UserDict({"a": inner, "x": (MappingProxyType({}),)}))
    assert json.loads(data[data.index(b"{") :]) == {"a": {"b": {"d": [{"e": 1}]}, "c": None}, "x": [{}]}
    with pytest.raises(RequestInvalid, match="objects of type object"):
        encode_record(Op.PUT, "c", "a", MappingProxyType({"a": object()}))


class Masked(str):
    def __str__(self) -> str:
        return "***"


class Celsius(float):
    """As numpy's float64 is one."""


class Count(int):
    pass


def test_a_text_or_number_of_a_subclass_is_written_as_what_it_holds() -> None:
    document = {
        Masked("k"): [Masked("é"), Celsius(-0.5)],
        "c": {"n": Count(1 << 70), Count(7): Celsius(1e300)},
    }
    data = encode_record(Op.PUT, "c", "a", document)
    assert json.loads(data[data.index(b"{") :]) == {"k": ["é", -0.5], "c": {"n": 1 << 70, "7": 1e300}}


def test_nothing_and_the_word_for_it_are_documents_like_others() -> None:
    document = {"a": None, "b": "null", "c": msgspec.Raw(b"null"), "d": Reading(1.5)}
    assert encode_record(Op.PUT, "c", "a", document).endswith(
        b'{"a":null,"b":"null","c":null,"d":{"celsius":1.5}}'
    )


def test_a_document_that_is_too_large_is_refused_with_its_size() -> None:
    large = {"x": "y" * DOC_BYTES_MAX}
    with pytest.raises(TooLarge, match="document bytes"):
        encode_record(Op.PUT, "c", "a", large)
    with pytest.raises(TooLarge, match="record 1: document bytes"):
        encode_rows(Op.INSERT, "c", [{}, large])


def test_rows_come_with_and_without_ids_and_an_error_names_the_row() -> None:
    encoded, ids = encode_rows(Op.INSERT, "c", [("a", {}), {"x": 1}, b"{}"])
    assert ids == ["a", "", ""] and len(encoded) == 3
    with pytest.raises(RequestInvalid, match="record 2: ") as error:
        encode_rows(Op.INSERT, "c", [{}, {}, 5])
    assert error.value.record == 2


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1], [(0, 1)]),
        ([1] * 10_001, [(0, 10_000), (10_000, 10_001)]),
        ([PIECE_BYTES_SOFT + 1, 1, 1], [(0, 1), (1, 3)]),
        ([1, PIECE_BYTES_SOFT], [(0, 1), (1, 2)]),
    ],
)
def test_rows_are_cut_into_pieces_within_the_limits(sizes, expected) -> None:
    zeros = bytes(PIECE_BYTES_SOFT + 1)
    views = {size: zeros[:size] for size in set(sizes)}
    assert list(cut([views[size] for size in sizes])) == expected


@pytest.mark.parametrize("number", [b"1e999", b"9" * 5_000])
def test_a_number_that_python_has_no_room_for_is_refused_in_our_words(number: bytes) -> None:
    stored = Document("p1", 1, b'{"a":' + number + b"}", token())
    with pytest.raises(RequestInvalid, match="'p1' holds a number that cannot be read here.*`raw`"):
        _ = stored.value


def test_a_document_too_deep_for_the_stack_is_refused_in_our_words() -> None:
    deep = 100_000
    stored = Document("p1", 1, b'{"a":' * deep + b"1" + b"}" * deep, token())
    with pytest.raises(RequestInvalid, match="'p1' is too deep to be read here.*`raw`"):
        _ = stored.value
