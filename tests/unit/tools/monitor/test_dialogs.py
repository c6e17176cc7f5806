"""The help of the monitor tells what stands on its screen, as its document does."""

from __future__ import annotations

from pathlib import Path

from tools.monitor.dialogs import help_lines
from tools.monitor.ink import SYMBOLS

DOCUMENT = (Path(__file__).parents[4] / "docs" / "MONITOR.md").read_text()


def test_every_symbol_is_explained_by_the_help_and_by_the_document() -> None:
    explained = {line[0].text for line in help_lines() if line}
    assert set(SYMBOLS.values()) <= explained
    assert {symbol for symbol in SYMBOLS.values() if f"`{symbol}`" not in DOCUMENT} == set()
