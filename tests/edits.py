"""Plain data, as YAML reads it, with one value changed, made for tests."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def edited(data: Mapping[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of `data` with `value` at `path`, such as `members[2].region`; an Ellipsis takes the key away.

    Mappings on the way that are not there are made.
    """
    result = copy.deepcopy(dict(data))
    *parents, last = path.replace("]", "").replace("[", ".").split(".")
    place: Any = result
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return result
