"""Who of the owners has most: always the one whom a look at all of them would find, without that look."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.client_ids import MARK_BYTES, OWNER_BYTES, marked, owner_of
from cluster.owners import Owners
from redwire.position import Lsn


def client(number: int, whose: int) -> bytes:
    return marked(Lsn(number), whose.to_bytes(OWNER_BYTES, "big").ljust(MARK_BYTES, b"."))


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 5), st.integers(-30, 60), st.booleans()), max_size=80
    )
)
def test_whoever_has_most_is_found_after_any_change(steps: list[tuple[int, int, int, bool]]) -> None:
    owners, held = Owners(), dict[bytes, int]()
    for number, whose, grown, asked in steps:
        ident = client(number, whose)
        if grown >= 0:
            held[ident] = held.pop(ident, 0) + grown  # last in order, too
            owners.wrote(ident, grown)
        elif ident in held:
            owners.forget(ident, held.pop(ident))
        if held and asked:
            of: dict[bytes, list[bytes]] = {}
            for known in held:
                of.setdefault(owner_of(known), []).append(known)
            crowded = max(of, key=lambda name: (len(of[name]), name))
            heavy = max(of, key=lambda name: (sum(held[known] for known in of[name]), name))
            assert (owners.crowding(), owners.heaviest()) == (of[crowded][0], of[heavy][0])
    assert sorted(known for owner in owners for known in owner.clients) == sorted(held)
    assert sum(owner.held for owner in owners) == sum(held.values())
