"""The quorum without a cluster: how far a log is committed, from acks that you report yourself."""

from __future__ import annotations

from redwire.position import Lsn, NodeId, Region
from regions import CommitPolicy, Member, Membership, MissingRegions, QuorumConfig, QuorumCoordinator

EU, US, AP = (Member(NodeId(f"{name}-1"), Region(name)) for name in ("eu", "us", "ap"))


def main() -> None:
    """Three regions, a record in each, and a wait that ends when the two that the rule names have it."""
    rule = CommitPolicy.parse("regions(eu,us)")
    quorum = QuorumCoordinator(
        Membership((EU, US, AP)), EU.id, rule, QuorumConfig.regions(["eu", "us"]).with_timeout(500)
    )
    quorum.begin_reign(Lsn(1), now_ms=0)

    quorum.own_durable(Lsn(1), now_ms=1)
    quorum.joined(AP.id, session=1, position=Lsn(0), applied=Lsn(0), now_ms=2)
    try:
        quorum.wait_for_quorum(Lsn(1), now_ms=2)
    except MissingRegions as missing:
        print(f"nobody would hear of record 1: {missing}")

    quorum.joined(US.id, session=2, position=Lsn(0), applied=Lsn(0), now_ms=3)
    wait = quorum.wait_for_quorum(Lsn(1), now_ms=3)
    quorum.acked(AP.id, 1, durable=Lsn(1), applied=Lsn(0), received=Lsn(1), now_ms=60)
    print(f"ap has it: committed up to {quorum.commit_watermark()}, {wait}")
    quorum.acked(US.id, 2, durable=Lsn(1), applied=Lsn(0), received=Lsn(1), now_ms=80)
    print(f"us has it: committed up to {quorum.commit_watermark()}, {wait}")


if __name__ == "__main__":
    main()
