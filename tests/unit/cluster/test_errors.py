"""What of several errors is told."""

from __future__ import annotations

from cluster.errors import first
from redwire.errors import RedwireError


def test_of_errors_that_came_together_the_first_is_told_however_deep_it_stands() -> None:
    one, other = RedwireError("one"), RedwireError("other")
    assert first(BaseExceptionGroup("", [BaseExceptionGroup("", [one, other]), other])) is one
