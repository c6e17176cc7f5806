"""A write between its attempts: what each of them proves, and what the outcome may say of that."""

from __future__ import annotations

import pytest

import redwire
from redwire import errors
from redwire.errors import Code


@pytest.mark.parametrize("policy", [None, "majority"])
async def test_an_earlier_attempt_that_is_committed_is_the_outcome_of_one_refused_later(
    cluster, scripts, policy: str | None
) -> None:
    cluster.leader.script.extend([scripts.cut_after, scripts.refusing(Code.FORBIDDEN)])
    async with redwire.connect(cluster.uri()) as db:
        written = await db.put("products", "p1", {}, policy=policy)
    assert written.receipt.duplicate and written.receipt.achieved == "majority"


async def test_what_was_asked_beyond_the_commit_rule_is_not_confirmed_by_an_earlier_attempt(
    cluster, scripts
) -> None:
    cluster.leader.script.extend([scripts.cut_after, scripts.refusing(Code.FORBIDDEN)])
    async with redwire.connect(cluster.uri()) as db:
        with pytest.raises(
            errors.NotConfirmed, match=r"not known to be by ack_n=2, and now: .*FORBIDDEN"
        ) as unsure:
            await db.put("products", "p1", {}, policy="ack_n=2")
        assert unsure.value.receipt.achieved == "majority" and unsure.value.lsn == 1
        assert (await db.resolve(unsure.value.key)).id == "p1"


async def test_many_in_flight_may_name_the_version_that_they_replace(cluster) -> None:
    async with redwire.connect(cluster.uri()) as db:
        first = await db.submit_put("products", "p1", {}, if_version=0)
        with pytest.raises(errors.Conflict, match="stands at 1"):
            await db.submit_put("products", "p1", {}, if_version=0)
        assert (await db.submit_put("products", "p1", {}, if_version=first.version)).version == 3
