"""Commits by quorum while regions fall silent, end, and come back."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from redwire import connect
from redwire.errors import Code, NotConfirmed, Refused
from redwire.message.admin import RemoveUser
from redwire.message.settings import SetPolicy

TIMEOUT_MS = 1_000
GRACE_MS = 1_500


@pytest.fixture
def regions(fleet: Any) -> Any:
    """Three regions, one node each; two named regions by default, any majority at least."""
    return fleet(
        "eu-1",
        "us-1",
        "ap-1",
        policy="regions(eu,us)",
        floor="majority",
        policy_timeout_ms=TIMEOUT_MS,
        replica_timeout_ms=GRACE_MS,
    )


def test_whoever_asks_for_a_key_too_early_settles_it(regions: Any) -> None:
    """Asked on the same connection right behind the write: either it is committed, or it never is."""

    async def ask_at_once(rounds: int) -> tuple[list[bool], list[bool]]:
        told, written = [], []
        async with connect(regions.uri()) as db:
            for number in range(rounds):
                pending = db.submit_put("early", f"e{number}", {})
                try:
                    await db.resolve(pending.key)
                    told.append(True)
                except Refused as error:
                    assert error.code is Code.NOT_FOUND
                    told.append(False)
                try:
                    await pending.wait()
                except Refused as error:
                    assert error.code is Code.KEY_CLOSED
                written.append(await db.get("early", f"e{number}") is not None)
        return told, written

    told, written = anyio.run(ask_at_once, 20)
    assert told == written


def test_a_silent_region_leaves_writes_unconfirmed_then_refused_and_its_return_commits_again(
    regions: Any,
) -> None:
    db = regions.db
    reached = db.put("c", "before", {"n": 1}).receipt
    assert reached.achieved == reached.requested
    assert {"eu", "us"} <= {ack.region for ack in reached.acks}

    regions.pause("us-1")
    began = time.monotonic()
    with pytest.raises(NotConfirmed) as unconfirmed:
        db.put("c", "during", {"n": 2}, timeout_s=10)
    assert time.monotonic() - began < 5
    receipt = unconfirmed.value.receipt
    assert receipt.achieved == "majority"
    assert {ack.region for ack in receipt.acks} == {"eu", "ap"}

    regions.until(lambda: refused(db, None) == Code.MISSING_REGIONS, "the early refusal names the region")
    assert refused(db, "ack_n=2") == Code.INSUFFICIENT_REPLICAS
    assert db.put("c", "weaker", {"n": 3}, policy="majority").receipt.achieved == "majority"

    regions.resume("us-1")
    again = db.put("c", "after", {"n": 4}, timeout_s=30).receipt
    assert {"eu", "us"} <= {ack.region for ack in again.acks}
    assert db.resolve(unconfirmed.value.key).id == "during"
    regions.converge()
    documents = regions.documents("us-1", "c")
    assert {"before", "during", "weaker", "after"} == documents.keys()
    assert documents["during"][0] == receipt.lsn


def test_a_primary_that_lacks_copies_says_so_within_the_time_of_who_asks(
    fleet: Any,
) -> None:
    shop = fleet("eu-1", "us-1", policy_timeout_ms=60_000, replica_timeout_ms=60_000)
    shop.db.put("c", "before", {})
    shop.pause("us-1")
    with pytest.raises(NotConfirmed) as unconfirmed:
        shop.db.put("c", "during", {}, timeout_s=2)
    began = time.monotonic()
    with pytest.raises(NotConfirmed) as unsettled:
        shop.db.resolve(unconfirmed.value.key, timeout_s=2)
    assert time.monotonic() - began < 3 and unsettled.value.key == unconfirmed.value.key
    with pytest.raises(NotConfirmed):
        shop.db.admin.change_account(RemoveUser("nobody"), timeout_s=2)
    with pytest.raises(NotConfirmed):
        shop.db.admin.change_settings(SetPolicy(policy="local"), timeout_s=2)
    shop.resume("us-1")
    assert shop.db.resolve(unconfirmed.value.key, timeout_s=30).id == "during"


def test_a_write_that_is_not_confirmed_names_its_own_lsn_also_among_others(fleet: Any) -> None:
    shop = fleet("eu-1", "us-1", policy_timeout_ms=800)

    async def unconfirmed() -> dict[str, NotConfirmed]:
        async with connect(shop.uri()) as db:
            await db.put("c", "before", {})
            shop.pause("us-1")
            pending = {f"d{n}": db.submit_put("c", f"d{n}", {"n": n}, timeout_s=30) for n in range(12)}
            errors = {}
            for name, one in pending.items():
                with pytest.raises(NotConfirmed) as error:
                    await one.wait()
                errors[name] = error.value
            return errors

    errors = anyio.run(unconfirmed)
    shop.resume("us-1")
    shop.db.put("c", "after", {}, timeout_s=30)
    documents = shop.documents("eu-1", "c")
    for name, error in errors.items():
        assert documents[name][0] == error.lsn == shop.db.resolve(error.key).version


def refused(db: Any, policy: str | None) -> Code | None:
    """Why a write is refused now; None when it is not. What is refused is never written."""
    try:
        db.put("refused", "x", {}, policy=policy, timeout_s=1.5)
    except Refused as error:
        assert db.get("refused", "x") is None
        return error.code
    except NotConfirmed:
        db.delete("refused", "x", policy="majority")
    return None


def test_a_region_is_killed_and_comes_back_while_a_majority_goes_on(regions: Any) -> None:
    with regions.writer(policy="majority") as writer:
        writer.wait_acked()
        regions.kill("us-1")
        writer.wait_acked(100)
        assert not writer.doubtful and not writer.refused
        regions.start_node("us-1")
        regions.until(lambda: regions.status("us-1").primary.state == "leading", "us-1 follows")
        regions.db.put("c", "both", {}, timeout_s=30)
        writer.wait_acked()
    regions.check_nothing_lost(writer)
    assert all(len(receipt.acks) >= 2 for receipt in writer.acked.values())
