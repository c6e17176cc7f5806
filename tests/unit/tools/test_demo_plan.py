from __future__ import annotations

import unicodedata

import pytest

from redwire.message.client import CopyAck
from redwire.position import ClusterId, Lsn, Term, Token
from redwire.receipt import Receipt
from tools.demo.characters import characters
from tools.demo.plan import EVERYWHERE, FLOOR, POLICY, completing_ack, floor_ms


def receipt(policy: str, *nodes: str) -> Receipt:
    acks = tuple(CopyAck(node, node[:2], place) for place, node in enumerate(nodes))
    token = Token(ClusterId("0" * 32), Term(1), Lsn(1))
    return Receipt(Lsn(1), Term(1), policy, policy, acks, None, token, False)


@pytest.mark.parametrize(
    ("policy", "least_ms"),
    [
        ("local", 0),
        ("ack_n=1", 0),
        (FLOOR, 80),
        (POLICY, 80),
        ("majority", 80),
        (EVERYWHERE, 120),
        ("ack_n=4", 120),
    ],
)
def test_a_commit_takes_the_round_trip_to_the_nearest_copies_that_meet_its_policy(
    policy: str, least_ms: float
) -> None:
    assert floor_ms(policy) == least_ms


@pytest.mark.parametrize(
    ("policy", "nodes", "completing"),
    [
        (POLICY, ("eu-1", "eu-2", "us-2", "us-1"), "us-2"),
        (POLICY, ("us-2", "eu-1"), "eu-1"),  # the primary's own disk counts, however late
        (FLOOR, ("eu-1", "eu-2", "ap-1"), "ap-1"),
        ("majority", ("eu-1", "eu-2", "us-1", "ap-1"), "us-1"),
        (POLICY, ("eu-1", "eu-2", "ap-1"), None),
        (POLICY, (), None),
    ],
)
def test_the_completing_ack_is_the_first_with_which_the_policy_is_met(
    policy: str, nodes: tuple[str, ...], completing: str | None
) -> None:
    ack = completing_ack(receipt(policy, *nodes))
    assert (None if ack is None else ack.node) == completing


def test_the_data_set_has_each_named_character_once() -> None:
    rows = dict(characters(full=False))
    assert 20_000 <= len(rows) <= 40_000
    assert rows["U+0041"]["name"] == "LATIN CAPITAL LETTER A"
    assert rows["U+00BD"]["numeric"] == 0.5
    assert "numeric" not in rows["U+0041"]
    assert not any(str(row["name"]).startswith(("CJK ", "HANGUL ")) for row in rows.values())


def test_the_full_data_set_has_all_names() -> None:
    rows = characters(full=True)
    assert len(rows) == sum(1 for point in range(0x110000) if unicodedata.name(chr(point), ""))
