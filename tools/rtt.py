"""Round trips between regions as people write them: `eu-us=80ms`."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from redwire.position import Region
from redwire.spelling import guess
from regions.commit_time import Distances
from tools import durations
from tools.errors import DurationInvalid, RttInvalid

RTT_MS_MAX = 60_000
"""As long as a link for tests may be; light goes around the earth in 134 ms."""


def parse_ms(text: str) -> float:
    """Milliseconds from `80ms`, `0.5ms`, `1.2s` or a bare `80`, up to `RTT_MS_MAX`. Raises `RttInvalid`."""
    try:
        time_ms = durations.parse_ms(text)
    except DurationInvalid as error:
        raise RttInvalid(error.message, hint=error.hint) from error
    if time_ms > RTT_MS_MAX:
        raise RttInvalid(f"{text.strip()} is too long", hint=f"at most {RTT_MS_MAX} ms")
    return time_ms


def parse_pair(text: str, regions: Collection[Region]) -> frozenset[Region]:
    """The two regions in `eu-us`, or the one in `eu-eu`, of those in `regions`. Raises `RttInvalid`.

    Names may contain the hyphen that parts them, so only a reading in which both are known counts.
    """
    splits = [(text[:at], text[at + 1 :]) for at, sign in enumerate(text) if sign == "-"]
    known = {frozenset(map(Region, pair)) for pair in splits if set(pair) <= set(regions)}
    if len(known) == 1:
        return known.pop()
    if known:
        raise RttInvalid(f"{text!r} can be read in {len(known)} ways", hint="name the regions less alike")
    pairs = [f"{one}-{other}" for one in regions for other in regions if one != other]
    names = ", ".join(sorted(regions)) or "none"
    hint = guess(text, pairs, f"two of the regions {names}, as in eu-us")
    raise RttInvalid(f"{text!r} is no pair of regions", hint=hint)


def parse_distances(pairs: Iterable[tuple[str, str]], regions: Collection[Region]) -> Distances:
    """Distances from (`eu-us`, `80ms`) and so on. Raises `RttInvalid`, also for a pair given twice."""
    between: dict[frozenset[Region], float] = {}
    for names, text in pairs:
        pair = parse_pair(names, regions)
        if pair in between:
            raise RttInvalid(f"the round trip {names} is given twice", hint="it is the same in both ways")
        between[pair] = parse_ms(text)
    return Distances(between)
