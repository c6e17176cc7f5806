"""Texts of others, as a terminal may have them."""

from __future__ import annotations

import json

import pytest

from redwire.errors import Code
from redwire.handshake import Anonymous, decode_reason, refusal
from redwire.message.failure import Failure
from redwire.printable import harmless, printable

HOSTILE = "hi \x1b]0;PWNED\x07\x1b[31mred\nredwire: done\x7f\x9b2J\u202egnp"
SHOWN = r"hi \u001b]0;PWNED\u0007\u001b[31mred\nredwire: done\u007f\u009b2J\u202egnp"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("eu-1 · ü 漢 🙂", "eu-1 · ü 漢 🙂"),
        (HOSTILE, SHOWN),
        ("\t\r\x00", r"\t\r\u0000"),
        ("\ud800\U000e0001", r"\ud800\udb40\udc01"),
        (r"a\nb", r"a\nb"),
    ],
)
def test_what_is_not_printable_is_written_as_json_would(text: str, shown: str) -> None:
    assert printable(text) == shown and shown.isprintable()


def test_what_is_kept_stays() -> None:
    assert printable("a\nb\tc\r", keep="\n\t") == "a\nb\tc\\r"


def test_a_document_stays_the_same_document_without_what_a_terminal_acts_on() -> None:
    text = '{\t"a":\n"\x7f\x9b2J\u202e\u2066\u061cü🙂\u200d\\u001b"}'
    shown = harmless(text)
    assert json.loads(shown) == json.loads(text)
    assert shown == '{\t"a":\n"\\u007f\\u009b2J\\u202e\\u2066\\u061cü🙂\u200d\\u001b"}'
    assert "\x1b" not in harmless("\x1b[2J")


def test_a_document_with_line_ends_of_windows_stays_the_same_document() -> None:
    shown = harmless('{\r\n  "a": "\\r"\r\n}\r')
    assert json.loads(shown) == {"a": "\r"} and "\r" not in shown


@pytest.mark.parametrize("body", [json.dumps({"reason": HOSTILE}).encode(), HOSTILE.encode()])
def test_why_a_node_lets_nobody_in_is_one_line_in_every_exception(body: bytes) -> None:
    assert decode_reason(body) == SHOWN
    error = refusal(body, Anonymous())
    assert str(error).isprintable() and error.facts == {"reason": SHOWN}


@pytest.mark.parametrize("code", [Code.BUSY, Code.INVALID, Code.TIMEOUT, Code.NOT_CONFIRMED, Code.TOO_LARGE])
def test_what_a_node_answers_is_one_line_in_every_exception(code: Code) -> None:
    error = Failure(code=code, message=HOSTILE, hint=HOSTILE).to_error()
    assert SHOWN in str(error) and str(error).isprintable() and error.hint == SHOWN
