"""A data set that every Python carries: the named characters of Unicode, one document each."""

from __future__ import annotations

import sys
import unicodedata

COLLECTION = "characters"
_MANY = ("CJK ", "HANGUL ")
"""Three quarters of all names are these two prefixes and a number or a syllable."""


def characters(*, full: bool) -> list[tuple[str, dict[str, object]]]:
    """(id, document) for every named character, in code point order; unless `full`, without CJK and Hangul.

    33,000 or so, `full` four times as many: the exact number is that of this Python's Unicode version.
    """
    rows = []
    for codepoint in range(sys.maxunicode + 1):
        character = chr(codepoint)
        name = unicodedata.name(character, "")
        if name and (full or not name.startswith(_MANY)):
            rows.append((f"U+{codepoint:04X}", _document(codepoint, character, name)))
    return rows


def _document(codepoint: int, character: str, name: str) -> dict[str, object]:
    document: dict[str, object] = {
        "character": character,
        "codepoint": codepoint,
        "name": name,
        "category": unicodedata.category(character),
        "bidirectional": unicodedata.bidirectional(character),
        "width": unicodedata.east_asian_width(character),
    }
    value = unicodedata.numeric(character, None)
    if value is not None:
        document["numeric"] = value
    return document
