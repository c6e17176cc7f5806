"""Reads in other regions: as fresh as their token, or not at all; from whoever can answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redwire import connect_sync
from redwire.errors import Code, DeadlineExceeded, Refused

pytestmark = pytest.mark.slow

MODES = ("nearest", "any", "region:us", "region:ap")
WIDE = ("nearest", "any", "primary")
"""Modes that may end at the primary."""
REPLICA_TIMEOUT_MS = 3_000
PATIENT_S = 30.0
PAGES_ROWS = 2_500


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Any:
    """Three regions with links that can be cut. Each test leaves it whole."""
    pairs = [("eu", "us"), ("ap", "eu"), ("ap", "us")]
    return module_fleet(
        "eu-1", "us-1", "ap-1", rtt_ms=dict.fromkeys(pairs, 2.0), replica_timeout_ms=REPLICA_TIMEOUT_MS
    )


@pytest.fixture
def db(shop: Any) -> Iterator[Any]:
    """A client that lives in `us` and knows every node, all of which are well."""
    with connect_sync(shop.uri(region="us")) as client:
        shop.until(lambda: all(row.healthy for row in client.topology().replicas), "all are well")
        yield client


def value(db: Any, ident: str, **how: Any) -> int | None:
    document = db.get("reads", ident, **{"timeout_s": PATIENT_S} | how)
    return None if document is None else document.value["n"]


def was_missed(shop: Any, db: Any, node: str) -> Callable[[], bool]:
    """Whether the cluster calls the node ill."""
    addr = f"127.0.0.1:{shop.ports[node]}"
    return lambda: any(row.addr == addr and not row.healthy for row in db.topology().replicas)


@pytest.mark.parametrize("mode", MODES)
def test_a_token_makes_every_replica_show_the_write_it_came_from(db: Any, mode: str) -> None:
    for n in range(25):
        token = db.put("reads", "mine", {"n": n}).receipt.token
        assert value(db, "mine", read=mode, at_least=token) == n


def test_a_read_is_a_token_for_the_next_one_elsewhere(db: Any) -> None:
    for n in range(10):
        db.put("reads", "monotonic", {"n": n})
        seen = db.get("reads", "monotonic", read="primary")
        for region in ("us", "ap", "eu"):
            seen = db.get("reads", "monotonic", read=f"region:{region}", at_least=seen.token)
            assert seen.value["n"] == n


def test_all_pages_of_a_scan_on_a_replica_are_as_fresh_as_its_token(db: Any) -> None:
    rows = [(f"{n:05d}", {"n": n}) for n in range(PAGES_ROWS)]
    token = db.insert_many("pages", rows, timeout_s=PATIENT_S).receipt.token
    found = [document.value["n"] for document in db.scan("pages", read="region:ap", at_least=token)]
    assert found == list(range(PAGES_ROWS))


def test_a_replica_that_is_behind_answers_old_without_a_token_and_never_with_one(shop: Any, db: Any) -> None:
    seen = db.put("reads", "late", {"n": 1}).receipt.token
    assert value(db, "late", read="region:us", at_least=seen) == 1
    shop.isolate("us-1")
    token = db.put("reads", "late", {"n": 2}, timeout_s=PATIENT_S).receipt.token
    assert value(db, "late", read="region:us") == 1
    with pytest.raises(Refused) as stale:
        value(db, "late", read="region:us", at_least=token, timeout_s=3)
    assert stale.value.code is Code.STALE
    for mode in WIDE:
        assert value(db, "late", read=mode, at_least=token) == 2
    shop.until(was_missed(shop, db, "us-1"), "us-1 is missed")
    assert value(db, "late", read="nearest") == 2
    assert value(db, "late", read="region:us") == 1

    waiting: list[int | None] = []
    waits = {"read": "region:us", "at_least": token}
    reader = threading.Thread(target=lambda: waiting.append(value(db, "late", **waits)))
    reader.start()
    shop.heal("us-1")
    reader.join(PATIENT_S)
    assert waiting == [2]


def test_a_silent_replica_is_avoided_and_used_again_when_it_speaks(shop: Any, db: Any) -> None:
    token = db.put("reads", "silent", {"n": 1}).receipt.token
    assert value(db, "silent", read="region:us", at_least=token) == 1
    shop.pause("us-1")
    for mode in ("nearest", "any"):
        assert value(db, "silent", read=mode, at_least=token) == 1
    shop.until(was_missed(shop, db, "us-1"), "us-1 is missed")
    began = time.monotonic()
    for mode in ("nearest", "any") * 20:
        assert value(db, "silent", read=mode, at_least=token) == 1
    assert time.monotonic() - began < 10, "it is asked again and again"
    with pytest.raises(DeadlineExceeded):
        value(db, "silent", read="region:us", timeout_s=1)
    shop.resume("us-1")
    assert value(db, "silent", read="region:us", at_least=token) == 1


def test_replicas_go_on_answering_when_the_primary_is_dead(shop: Any, db: Any) -> None:
    token = db.put("reads", "bereft", {"n": 1}).receipt.token
    for region in ("us", "ap"):
        assert value(db, "bereft", read=f"region:{region}", at_least=token) == 1
    shop.kill("eu-1")
    for mode in MODES:
        assert value(db, "bereft", read=mode, at_least=token) == 1
        assert [row.id for row in db.scan("reads", read=mode, after="beref", limit=1)] == ["bereft"]
    with pytest.raises(DeadlineExceeded):
        value(db, "bereft", read="primary", timeout_s=1)
    with connect_sync(shop.uri(region="ap")) as newcomer:
        for mode in MODES:
            assert value(newcomer, "bereft", read=mode, at_least=token) == 1
    shop.lead("eu-1")
    assert value(db, "bereft", read="primary") == 1
    newest = db.put("reads", "bereft", {"n": 2}, timeout_s=PATIENT_S).receipt.token
    for mode in MODES:
        assert value(db, "bereft", read=mode, at_least=newest) == 2
