"""What the prover says of a policy and its floor: tables for people, a document for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from redwire.position import NodeId
from regions.binding import UNBOUND, MemberKind, Membership
from regions.commit_policy import CommitPolicy
from regions.commit_time import Distances, Never, Unmeasured, expected_commit_ms
from regions.prover import QUESTIONS, Loss, LossVerdict, Verdict, prove
from tools.grid import Grid, Legend

ANSWERS = ("kept", "writable", "successor")
"""What programs call `QUESTIONS`, in their order."""
LEGEND = Legend("""\
lost: these disks are gone for good, and nothing else is; the configuration stays. writes kept: a surviving
voter has every write that was confirmed. still writable: by the same primary; where that is lost, once a
successor leads. safe successor: the survivors contain a majority of the voters that meets every set of copies
that can commit. expected commit: distance and fsync alone; within a region 0 ms if nothing else is given.\
""")


class Promise(msgspec.Struct, frozen=True):
    """A policy's verdict, and how long it takes for each voter that may lead."""

    verdict: Verdict
    commit_ms: Mapping[NodeId, float | Unmeasured | Never]


class Assessment(msgspec.Struct, frozen=True):
    """What writes by the default policy are promised, and what those that ask for the floor alone are."""

    membership: Membership
    policy: Promise
    floor: Promise


def assess(
    policy: CommitPolicy,
    floor: CommitPolicy,
    membership: Membership,
    primary: NodeId | None,
    distances: Distances,
    fsync_ms: float,
) -> Assessment:
    """Prove `policy`, which is at or above `floor`, and `floor`. Raises as `prove`."""
    leaders = [member.id for member in membership.voters if primary in (None, member.id)]

    def promise(asked: CommitPolicy) -> Promise:
        verdict = prove(floor, membership, primary, asked)
        rtts = {leader: distances.from_primary(membership, leader) for leader in leaders}
        return Promise(
            verdict,
            {
                leader: expected_commit_ms(asked & floor, membership, leader, rtt_ms, fsync_ms)
                for leader, rtt_ms in rtts.items()
            },
        )

    return Assessment(membership, promise(policy), promise(floor))


def document(assessment: Assessment) -> dict[str, Any]:
    """The JSON document. Its keys are always the same; "" is nobody, or no reason, None unknown or never."""
    policy, floor = assessment.policy, assessment.floor
    return {
        "primary": policy.verdict.primary or "",
        "members": [
            {"id": member.id, "region": member.region, "kind": str(member.kind)}
            for member in assessment.membership.members
        ],
        "policy": str(policy.verdict.policy),
        "floor": str(floor.verdict.policy),
        "promises": {"policy": _promise_document(policy), "floor": _promise_document(floor)},
    }


def lost_document(lost: Loss) -> dict[str, Any]:
    """The JSON of a loss. `region` is "" where it is not a whole region that is lost."""
    return {"region": lost.region, "nodes": list(lost.nodes)}


def answers_document(verdict: LossVerdict) -> dict[str, Any]:
    """The JSON of what is left after a loss: its keys are `ANSWERS`."""
    return dict(zip(ANSWERS, (verdict.kept, str(verdict.writable), verdict.successor), strict=True))


def _promise_document(promise: Promise) -> dict[str, Any]:
    verdict = promise.verdict
    points = verdict.single_points
    return {
        "promise": verdict.promise,
        "empty": verdict.empty,
        "losses": [lost_document(each.lost) | answers_document(each) for each in verdict.losses],
        "single_points": {
            "data": _points_document(points.data),
            "writes": _points_document(points.writes),
            "successor": _points_document(points.successor),
        },
        "commit": [
            {
                "primary": leader,
                "p50_ms": round(time, 3) if isinstance(time, float) else None,
                "unmeasured": list(time.voters) if isinstance(time, Unmeasured) else [],
            }
            for leader, time in promise.commit_ms.items()
        ],
    }


def _points_document(losses: tuple[Loss, ...]) -> dict[str, list[str]]:
    return {
        "nodes": [node for each in losses if not each.region for node in each.nodes],
        "regions": [each.region for each in losses if each.region],
    }


def grids(assessment: Assessment) -> list[Grid]:
    """The tables in the order in which they are read. Those of the floor come last, where it is another."""
    policy, floor = assessment.policy, assessment.floor
    found = [_about(assessment), *_promise_grids(policy)]
    if floor.verdict.policy != policy.verdict.policy:
        found += _promise_grids(floor)
    return found


def _about(assessment: Assessment) -> Grid:
    policy, floor = assessment.policy.verdict, assessment.floor.verdict
    lines = [("policy", str(policy.policy)), ("promise", policy.promise)]
    if floor.policy == policy.policy:
        lines.append(("floor", "the same"))
    else:
        lines += [("floor", str(floor.policy)), ("its promise", floor.promise)]
    lines += [
        ("primary", policy.primary or "whoever leads"),
        ("voters", _named(assessment.membership, MemberKind.VOTER)),
    ]
    readers = _named(assessment.membership, MemberKind.READER)
    if readers:
        lines.append(("readers", f"{readers}: their copies count for nothing"))
    return Grid("What is promised", ("what", "value"), lines)


def _named(membership: Membership, kind: MemberKind) -> str:
    return ", ".join(
        member.id if member.region != UNBOUND else f"{member.id} (no region)"
        for member in membership.members
        if member.kind is kind
    )


def _promise_grids(promise: Promise) -> list[Grid]:
    verdict = promise.verdict
    times = [(leader, _time(time)) for leader, time in promise.commit_ms.items()]
    return [
        losses_grid(f"Writes by {verdict.policy}, when disks are lost", verdict.losses),
        Grid("Single points of failure", ("effect", "node or region"), verdict.single_points.words),
        Grid(f"Expected commit by {verdict.policy}", ("primary", "p50"), times),
    ]


def losses_grid(title: str, losses: tuple[LossVerdict, ...]) -> Grid:
    """One line for each loss."""
    return Grid(title, ("lost", *QUESTIONS), [(str(each.lost), *each.words) for each in losses])


def _time(time: float | Unmeasured | Never) -> str:
    return f"{time:g} ms" if isinstance(time, float) else str(time)
