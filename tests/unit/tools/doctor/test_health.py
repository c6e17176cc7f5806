"""What a status document says: quorum, disks, slots, lag, versions, policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cluster.retention import Reason
from cluster.volume import INODES_MIN
from redwire.status import (
    Lag,
    NodeStatus,
    Primary,
    Quorum,
    Slot,
)
from tests.doctor_facts import MB, NAMES, NOW_MS, asked, bad, cluster, facts, node, only, policy
from tools.condition import problems, trouble
from tools.doctor.finding import Check, Finding, Level
from tools.doctor.health import OF_PROBLEMS, OF_TROUBLES
from tools.doctor.judge import judge


def test_a_quorum_that_is_not_met_and_a_lost_primary_are_errors() -> None:
    status = replace(cluster(), quorum=Quorum(met=False, why="no voter in reach in us"))
    assert (found := only(facts(status))).check is Check.QUORUM and "no voter in reach in us" in found.what
    lost = Primary(node="eu-1", state="lost", since_at_ms=NOW_MS)
    status = replace(cluster(), primary=lost, quorum=Quorum(why="no primary is in sight"))
    (found,) = bad(facts(status))
    assert (found.check, found.level, found.where) == (Check.LEADER, Level.ERROR, "eu-1")
    assert "Lose the primary" in found.mend


@pytest.mark.parametrize("heard", [{}, {"us-1": 80_000}])  # the lost one, and when it has just stopped
def test_nodes_that_only_wait_for_a_primary_are_not_to_be_checked(heard: dict[str, int]) -> None:
    waiting = {"health": "unknown", "why": "no primary is in sight"}
    status = replace(
        cluster(
            eu_1=node("eu-1", health="unknown", why="not heard", rtts_us=heard),
            us_1=node("us-1", **waiting),
            ap_1=node("ap-1", **waiting),
        ),
        primary=Primary(node="eu-1", state="lost", since_at_ms=NOW_MS),
        quorum=Quorum(why="no primary is in sight"),
    )
    found = {each.check: each for each in bad(facts(status, "eu-1"))}
    assert set(found) - {Check.PAIRS} == {Check.PORTS, Check.LEADER, Check.NODES}
    assert found[Check.NODES].what.startswith("us-1, ap-1 run and wait for a primary")
    assert "journalctl" not in found[Check.NODES].mend
    assert found[Check.PORTS].where == found[Check.LEADER].where == "eu-1"


def test_a_node_that_is_to_lead_and_waits_has_in_its_log_for_whom() -> None:
    opening = node("us-1", role="opening")
    found = only(facts(cluster(us_1=opening)))
    assert found.what == "us-1 is opening" and "for whom it waits stands in its log" in found.mend


def test_what_is_not_known_is_not_called_well() -> None:
    def stranger(name: str) -> NodeStatus:
        return NodeStatus(id=name, addr=f"{name}.example.net:5050", region=name[:2], why="not heard")

    lost = replace(
        cluster(eu_1=stranger("eu-1"), us_1=stranger("us-1"), ap_1=node("ap-1", rtts_us={}, slot=Slot())),
        primary=Primary(node="eu-1", state="lost"),
        quorum=Quorum(why="no primary is in sight"),
    )
    (alone,) = (each for each in asked(lost) if each.name == "ap-1")
    findings = [each for each in judge(facts(asked=(alone,))) if each.level is Level.OK]
    assert {each.check for each in findings}.isdisjoint(
        {Check.PAIRS, Check.LEADER, Check.QUORUM, Check.NODES, Check.SLOTS}
    )
    (disks,) = [each for each in findings if each.check is Check.DISKS]
    assert disks.what.startswith("above the floor on ap-1;")


def test_disks_are_errors_when_full_and_warnings_when_slow_filling_or_near_the_floor() -> None:
    def disk(**changes: Any) -> Finding:
        well = node("us-1").disk
        return only(facts(cluster(us_1=node("us-1", disk=replace(well, **changes)))))

    assert (found := disk(state="full")).level is Level.ERROR and found.check is Check.DISKS
    assert found.why == "at most what has its space set aside already is still logged there"
    damaged = disk(state="damaged")
    assert damaged.level is Level.ERROR and "Replace a disk" in damaged.mend
    assert disk(fsync_p99_us=180_000).what == "one write in a hundred takes its disk 180 ms or more"
    assert disk(free_bytes=300 * MB).what == "300 MB are free, the floor is 200 MB"
    filling = disk(floor_ms=30 * 60_000)
    assert (filling.level, filling.where) == (Level.WARNING, "us-1") and "in 30 min" in filling.what
    assert disk(floor_ms=0, free_bytes=100 * MB).level is Level.ERROR


def test_a_volume_without_inodes_is_called_that_and_wants_no_space() -> None:
    def disk(state: str, free_inodes: int, name: str = "us-1") -> NodeStatus:
        return node(name, disk=replace(node(name).disk, state=state, free_inodes=free_inodes, volume="v"))

    found = only(facts(cluster(us_1=disk("full", 0))))
    assert (found.level, found.what) == (Level.ERROR, "us-1: disk full, no inode is left")
    assert "df -i" in found.mend and "add space" not in found.mend
    assert "add space" in only(facts(cluster(us_1=disk("full", 1)))).mend
    found = only(facts(cluster(us_1=disk("working", 0), ap_1=disk("working", 0, "ap-1"))))
    assert (found.level, found.where) == (Level.WARNING, "us-1, ap-1") and found.what.startswith("0 inodes")
    assert not bad(facts(cluster(us_1=disk("working", INODES_MIN))))


def test_a_node_that_runs_with_a_damaged_state_is_not_told_to_be_started(tmp_path: Path) -> None:
    damaged = node(
        "us-1", disk=replace(node("us-1").disk, state="damaged"), health="unhealthy", why="damaged"
    )
    found = {each.check: each for each in bad(facts(cluster(us_1=damaged), dev=tmp_path))}
    assert found[Check.NODES].where == "us-1" and found[Check.NODES].mend == "see disks"
    assert "Replace a disk" in found[Check.DISKS].mend


def test_what_a_full_disk_brings_about_is_not_mended_elsewhere() -> None:
    full = node("eu-1", disk=replace(node("eu-1").disk, state="full"), health="unhealthy", why="disk full")
    status = cluster(eu_1=full)
    why = "DISK_FULL: the primary's disk is full"
    out = replace(status.regions[0], holds_watermark=False)
    status = replace(
        status, quorum=replace(status.quorum, met=False, why=why), regions=(out, *status.regions[1:])
    )
    mends = {found.check: found.mend for found in bad(facts(status))}
    assert mends[Check.QUORUM] == mends[Check.NODES] == "see disks"
    assert "free or add space" in mends[Check.DISKS]


def test_what_several_nodes_have_on_one_volume_is_told_once() -> None:
    def on(name: str, **changes: Any) -> NodeStatus:
        well = node(name)
        return replace(well, disk=replace(well.disk, volume="v", **changes))

    near = [on(name, free_bytes=300 * MB) for name in NAMES]
    found = only(facts(cluster(eu_1=near[0], us_1=near[1], ap_1=near[2])))
    assert (found.where, found.what) == ("eu-1, us-1, ap-1", "300 MB are free, the floor is 200 MB")
    full_in = [
        on(name, floor_ms=ms, floor_over_ms=600_000) for name, ms in zip(NAMES, (9e5, 8e5, 7e5), strict=True)
    ]
    found = only(facts(cluster(eu_1=full_in[0], us_1=full_in[1], ap_1=full_in[2])))
    text = "disk (eu-1, us-1 too) reaches its floor of 200 MB, by its last 10 min 00 s, in 11 min 40 s"
    assert (found.where, found.what) == ("ap-1", f"{text} if nothing changes")


def test_when_a_disk_is_full_is_said_to_be_too_early_to_tell_while_it_is() -> None:
    def disks(**over_ms: int) -> str:
        rows = {
            name: replace(node(name), disk=replace(node(name).disk, floor_over_ms=over_ms.get(name[:2])))
            for name in NAMES
        }
        found = judge(facts(cluster(eu_1=rows["eu-1"], us_1=rows["us-1"], ap_1=rows["ap-1"])))
        return next(each.what for each in found if each.check is Check.DISKS)

    assert disks(eu=120_000).endswith("; too early to foretell when these fill: us-1, ap-1")
    assert disks(eu=120_000, us=120_000, ap=120_000).endswith("take 900 µs or less")


def slot(state: str, bound: str) -> Finding:
    """What is found of a slot of ap-1."""
    row = node("ap-1", slot=Slot(state=state, bound=bound, eviction_ms=600_000))
    return only(facts(cluster(ap_1=row)))


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (Reason.BYTES, "raise retention.bytes_max in "),
        (Reason.AGE, "raise retention.age_max_s in "),
        (Reason.DISK, "free space on the primary's disk"),
        (Reason.GONE, "raise retention.bytes_max and age_max_s in "),
    ],
)
def test_a_slot_says_what_would_keep_the_log_for_longer(reason: Reason, advice: str) -> None:
    lost = slot("evicted", reason.value)
    assert (lost.check, lost.level) == (Check.SLOTS, Level.ERROR)
    assert lost.what == f"ap-1: evicted from its slot: {reason.value}"
    assert lost.mend.startswith(f"let it run; if that recurs, {advice}")
    risky = slot("at_risk", reason.value)
    assert (risky.check, risky.level) == (Check.SLOTS, Level.WARNING)
    assert risky.mend.startswith(f"start ap-1 before that, or {advice}")


def test_every_reason_of_retention_has_its_advice_and_a_word_from_elsewhere_names_no_wrong_key() -> None:
    strange = slot("evicted", "phase_of_the_moon").mend
    assert strange.endswith("raise what bounds it: retention in the primary's node.yaml")
    assert len({slot("evicted", reason.value).mend for reason in Reason} | {strange}) == len(Reason) + 1


def test_the_doctor_has_a_mend_for_all_that_is_wrong_or_coming_in_a_document() -> None:
    assert set(OF_PROBLEMS) == set(problems.Kind) - {problems.Kind.SILENCE}
    assert set(OF_TROUBLES) == set(trouble.Kind)


def test_who_is_a_minute_behind_and_comes_no_nearer_is_told() -> None:
    late = Lag(state="behind", records=9_000, ms=70_000)
    found = only(facts(cluster(ap_1=node("ap-1", lag=late))))
    assert (found.check, found.where) == (Check.NODES, "ap-1")
    assert bad(facts(cluster(ap_1=node("ap-1", lag=replace(late, catch_up_ms=9_000))))) == []


def test_versions_that_differ_are_told_with_who_runs_what() -> None:
    found = only(facts(cluster(us_1=node("us-1", version="0.2.0"))))
    assert found.what == "eu-1, ap-1 run 0.1.0; us-1 run 0.2.0"
    assert only(facts(version="0.3.0")).what == "this redwire is 0.3.0, the nodes run 0.1.0"


def test_a_reader_does_not_count_and_that_is_as_it_should_be() -> None:
    reader = node("ap-1", kind="reader", uncounted="reader")
    found = judge(facts(cluster(ap_1=reader)))
    assert [each.level for each in found if each.check is Check.QUORUM] == [Level.OK]
    assert only(facts(cluster(ap_1=node("ap-1", uncounted="another incarnation")))).check is Check.QUORUM


def test_a_binding_that_is_not_what_the_node_says_is_told() -> None:
    found = only(facts(cluster(ap_1=node("ap-1", declared="eu"))))
    assert (found.check, found.level) == (Check.SETTINGS, Level.WARNING)
    assert "redwire regions bind ap-1 REGION --dry-run" in found.mend


def test_single_points_of_failure_are_warnings_by_the_prover() -> None:
    found = only(facts(policy("regions(eu,us)", "majority")))
    assert (found.check, found.level) == (Check.SINGLE_POINTS, Level.WARNING)
    assert found.what == "writes stop without eu-1 or us-1 or region eu or region us"
    assert "redwire policy set majority --dry-run" in found.mend
    lower = only(facts(policy("regions(eu,us)", "regions(eu,us)")))
    assert "redwire policy set majority --floor none --dry-run" in lower.mend
    first, *_ = bad(facts(policy("local", "local")))
    assert first.what.startswith("confirmed writes are lost with eu-1")
    found = only(facts(policy("regions(eu,sa)", "majority")))
    assert found.level is Level.ERROR and "sa" in found.what
