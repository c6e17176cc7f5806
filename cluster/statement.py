"""What a SQL text asks for, seen by its tokens: what kind of statement it is, its parameters, the names in
it.

The tokens are SQLite's. Nothing here protects anything: a text that is misread gets a worse error message,
and what it may touch is decided when SQLite compiles it (see `sql`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import TypeVar

import msgspec

from cluster.errors import QueryFailed

TEXT_BYTES_MAX = 1 << 20
"""Ten thousand values of a hundred bytes, written out; what is larger is a parameter."""
CATALOG = "show collections"
"""The view behind SHOW COLLECTIONS, by a name that no collection can have."""

# Letters, and all that is not ASCII, by what they are not: a range up to the last character compiles slowly.
# What is quoted is taken without ways back, which for a megabyte would take a hundred of memory, and without
# an end as far as it goes, as SQLite does: it says what is wrong.
_TOKEN = re.compile(
    r"""
      (?P<gap> [ \t\n\f\r]+ | --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<quoted> '[^']*+(?:''[^']*+)*+(?:'|\Z) | "[^"]*+(?:""[^"]*+)*+(?:"|\Z)
        | `[^`]*+(?:``[^`]*+)*+(?:`|\Z) | \[[^\]]*+(?:\]|\Z) )
    | (?P<numbered> [$?][0-9]{1,6} )
    | (?P<mark> \? )
    | (?P<named> [$@:\#][^\x00-/:-@\[-^`{-\x7f]+ )
    | (?P<word> [^\x00-@\[-^`{-\x7f][^\x00-\#%-/:-@\[-^`{-\x7f]* )
    | (?P<number> [0-9][0-9A-Za-z_.]* )
    | (?P<other> . )
    """,
    re.DOTALL | re.VERBOSE,
)
_CLOSING = {"[": "]"}
_NUMBER_THEM = "number them from 1: $1, $2, or write ? in order"


class StatementKind(Enum):
    """What can be answered."""

    SELECT = "select"
    SHOW_COLLECTIONS = "show"


V = TypeVar("V")


class Statement(msgspec.Struct, frozen=True):
    """`text` is as it came, but for `?1`, which is `$1` in it: not every Python binds the other form. A SHOW
    COLLECTIONS, with any WHERE, ORDER BY and LIMIT behind it, is a SELECT from `CATALOG`.

    `names` are its words and quoted names in lower case, keywords and literals among them. `numbered` holds
    the digits of its `$1` parameters, `marks` is the number of its `?`; a statement has one kind of them.
    """

    kind: StatementKind
    text: str
    names: frozenset[str]
    numbered: frozenset[str]
    marks: int

    def bound(self, values: Sequence[V]) -> dict[str, V] | Sequence[V]:
        """The parameters' values in the form that goes with the text; `values` may be more than it takes.

        Raises `QueryFailed` when they are fewer.
        """
        needed = max(map(int, self.numbered), default=self.marks)
        if needed > len(values):
            raise QueryFailed(f"the statement takes {needed} values, {len(values)} are given")
        if self.numbered:
            return {digits: values[int(digits) - 1] for digits in self.numbered}
        return values[: self.marks]


_SELECTS = frozenset(("SELECT", "WITH", "VALUES"))
_SHOW = ["SHOW", "COLLECTIONS"]
_MADE = frozenset(("COLLECTION", "DOCUMENT", "TABLE"))
"""What a CREATE of can be: RedDB's drivers say one before they write, and go on where it already exists."""
_PUT = "write with put, insert or a BulkInsert"
_DOCUMENTS = "there are documents only"
_INSTEAD = {
    "INSERT": _PUT,
    "REPLACE": _PUT,
    "UPDATE": "write the whole document with put",
    **dict.fromkeys(
        ("CREATE", "QUEUE", "VAULT", "UNSEAL", "INVALIDATE", "SEARCH", "ASK", "MATCH"), _DOCUMENTS
    ),
    "KV": "a key is a document's id: write with a BulkInsert, read with Get, remove with Delete",
    "DELETE": "delete by id",
    "DROP": "delete the documents: a collection without any costs nothing",
    "BEGIN": "send the records of one change in one atomic request",
    "COMMIT": "send the records of one change in one atomic request",
    "ROLLBACK": "send the records of one change in one atomic request",
    "PRAGMA": "ask for the node's status",
    "EXPLAIN": "only the rows of a SELECT can be asked for",
}
"""What to do instead of a statement that is none of ours, by its first word."""


def parse(text: str) -> Statement:
    """The statement in `text`. Raises `QueryFailed` for one that is not answered."""
    if len(text.encode(errors="replace")) > TEXT_BYTES_MAX or "\0" in text:
        raise QueryFailed(f"a statement has at most {TEXT_BYTES_MAX} bytes, none of them NUL")
    pieces: list[str] = []
    words: list[str] = []
    names: set[str] = set()
    numbered: set[str] = set()
    marks, strange = 0, ""
    for token, piece in _tokens(text):
        match token:
            case "numbered":
                numbered.add(piece[1:])
                piece = f"${piece[1:]}"
            case "mark":
                marks += 1
            case "named":
                strange = strange or piece
            case "word":
                words.append(piece.upper())
                names.add(piece.lower())
                if words == _SHOW:
                    names.add(CATALOG)
                    pieces, piece = [], f'SELECT * FROM "{CATALOG}"'
            case "table":
                names.add(piece.lower())
                piece = f'"{piece}"'
            case "quoted":
                close = _CLOSING.get(piece[0], piece[0])
                names.add(piece[1:-1].replace(close * 2, close).lower())
            case _:
                pass
        pieces.append(piece)
    kind = _kind(words)  # first: what is no SQL may hold JSON, whose colons name no parameters
    if strange:
        raise QueryFailed(f"{strange} is no parameter", hint=_NUMBER_THEM)
    if numbered and marks or any(int(digits) < 1 for digits in numbered):
        raise QueryFailed("parameters of two kinds, or one numbered 0", hint=_NUMBER_THEM)
    return Statement(kind, "".join(pieces), frozenset(names), frozenset(numbered), marks)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Kind and text of each token. A name behind FROM or JOIN is one, a `table`: drivers write a collection's
    there as it is, were it `order`, `2024` or `shop.orders`.
    """
    awaited, name, gap, last = False, "", "", ""
    for token in _TOKEN.finditer(text):
        kind, piece = token.lastgroup or "other", token.group()
        if awaited and name and kind == "gap":
            gap += piece
            continue
        if awaited and not gap and (kind in _NAMES or name and piece == "."):
            name += piece
            continue
        if awaited and kind != "gap":
            if name:  # else a query in brackets, or a name in quotation marks
                half = name[-1] == "."  # what follows is the rest of it, quoted
                yield "word" if half or piece == "(" else "table", name
                yield "gap", gap or (" " if kind == "quoted" and not half else "")
            awaited, name, gap = False, "", ""
        if kind == "word":
            awaited = piece.upper() in _BEFORE_TABLES and last != "DISTINCT"  # IS DISTINCT FROM compares
        if kind != "gap":
            last = piece.upper()
        yield kind, piece
    if name:
        yield "table", name


_NAMES = frozenset(("word", "number"))
_BEFORE_TABLES = frozenset(("FROM", "JOIN"))


def _kind(words: list[str]) -> StatementKind:
    """What a text is that begins with these. Raises `QueryFailed` for what is not answered."""
    if words and words[0] in _SELECTS:
        return StatementKind.SELECT
    if words[:2] == _SHOW:
        return StatementKind.SHOW_COLLECTIONS
    if words[:1] == ["CREATE"] and words[1:2] and words[1] in _MADE:
        text = "as far as CREATE goes every collection already exists: it begins with its first document"
        raise QueryFailed(text, hint="just write to it")
    first = words[0] if words else "an empty text"
    named = " ".join(words[:2]) if first == "CREATE" else first
    raise QueryFailed(
        f"SQL only reads here: SELECT, WITH, VALUES, SHOW COLLECTIONS, not {named}",
        hint=_INSTEAD.get(first, ""),
    )
