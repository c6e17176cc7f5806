"""Texts of others as a terminal may have them: nothing in them moves its cursor, begins a line or turns round
what stands there.
"""

from __future__ import annotations

import json
import re

_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
"""What a terminal may act on: C0 but tab and line feed, DEL, C1, and what turns the direction of writing."""


def printable(text: str, keep: str = "") -> str:
    """`text` on one line, what cannot be printed as JSON would write it; but for the characters of `keep`."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else _escape(sign) for sign in text)


def harmless(document: str) -> str:
    """The text of a JSON document, still the same document, without what a terminal acts on. Of that only a
    carriage return can stand outside the strings of one, where it is a blank like others, and not in them.
    """
    return _COMMANDS.sub(lambda found: _escape(found[0]), document.replace("\r", " "))


def _escape(sign: str) -> str:
    return f"\\u{ord(sign):04x}" if sign == "\x7f" else json.dumps(sign)[1:-1]
