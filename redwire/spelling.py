"""What a word was probably meant to be, for the hints of errors."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` that `word` was probably meant to be; None if none is close.

    That is also the only one that begins with it, from three letters on.
    """
    words = [*words]
    longer = [other for other in words if len(word) >= 3 and other.lower().startswith(word.lower())]
    if len(longer) == 1:
        return longer[0]
    ranked = sorted((_distance(word.lower(), other.lower()), other) for other in words)
    if not ranked or ranked[0][0] > max(1, len(word) // 3):
        return None
    return ranked[0][1]


def guess(word: str, words: Iterable[str], otherwise: str = "") -> str:
    """The hint for a `word` that is none of `words`: which one was probably meant, else `otherwise`."""
    meant = nearest(word, words)
    return f"did you mean {meant}?" if meant else otherwise


def _distance(a: str, b: str) -> int:
    """Letters inserted, deleted, replaced or swapped with their neighbour on the way from `a` to `b`."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        older, before, row = before, row, [i]
        for j, right in enumerate(b, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                best = min(best, older[j - 2] + 1)
            row.append(best)
    return row[-1]
