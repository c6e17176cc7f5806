"""Settings are records of the log: changed while everybody writes, in force at one LSN, lost in no crash."""

from __future__ import annotations

import shutil
import threading
from typing import Any

import pytest
import yaml

from redwire import connect_sync
from redwire.errors import Code, NotConfirmed, RedwireError, Refused, RequestInvalid, UnknownOutcome
from redwire.message.settings import AddMember, BindRegion, MoveMember, PromoteMember, RemoveMember, SetPolicy
from tools.dev.cluster_folder import free_ports

GRACE_MS = 1_500


@pytest.fixture
def three(fleet: Any) -> Any:
    """Three regions, one node each; two named regions are policy and floor."""
    return fleet(
        "eu-1",
        "us-1",
        "ap-1",
        policy="regions(eu,us)",
        policy_timeout_ms=2_000,
        replica_timeout_ms=GRACE_MS,
    )


def everywhere(three: Any, lsn: int) -> None:
    """All nodes have these settings in force."""
    for node in three.nodes:
        three.until(
            lambda node=node: three.at(node).admin.settings().lsn == lsn, f"{node} has settings {lsn}"
        )


def test_policies_change_under_load_and_nothing_acknowledged_is_lost(three: Any) -> None:
    policies = ("majority", "ack_n=2", "regions(eu,us)", "ack_n=1", "regions(2 of ap,eu,us)", "majority")
    with three.writer() as writer:
        writer.wait_acked()
        for policy in policies:
            changed = three.db.admin.change_settings(SetPolicy(policy=policy))
            assert changed.after.policy == policy
            receipt = three.db.put("c", "after", {"policy": policy}).receipt
            assert (receipt.requested, receipt.achieved) == (policy, policy)
            assert receipt.lsn > changed.lsn
            writer.wait_acked()
    assert not writer.doubtful and not writer.refused
    everywhere(three, changed.lsn)
    three.check_nothing_lost(writer)


def test_a_dry_run_says_the_same_and_changes_nothing(three: Any) -> None:
    admin = three.db.admin
    before = admin.settings()
    planned = admin.change_settings(SetPolicy(policy="majority"), dry_run=True)
    assert (planned.lsn, planned.before) == (0, before)
    assert planned.after.policy == "majority"
    assert admin.settings() == before
    done = admin.change_settings(SetPolicy(policy="majority"), based_on=before.lsn)
    assert done.text == planned.text
    again = admin.change_settings(SetPolicy(policy="majority"), based_on=before.lsn)
    assert (again.lsn, again.after) == (0, done.after)


def test_who_sets_a_policy_that_nobody_in_reach_can_meet_is_told_so_before(three: Any) -> None:
    admin, wanted = three.db.admin, SetPolicy(policy="majority & regions(eu,us)", floor="majority")
    admin.change_settings(SetPolicy(policy="majority"))
    assert admin.change_settings(wanted, dry_run=True).unmet == ""
    three.pause("us-1")

    def unmet() -> str:
        return str(admin.change_settings(wanted, dry_run=True).unmet)

    said = three.until(unmet, "the region to be missed")
    assert "us" in said and "MISSING_REGIONS" not in said
    same = SetPolicy(policy=admin.settings().policy)
    assert admin.change_settings(same, dry_run=True).unmet == ""
    three.resume("us-1")
    three.until(lambda: not unmet(), "the region to be back")


def test_of_two_operators_at_once_one_wins_and_the_other_is_told(three: Any) -> None:
    three.converge()  # so that either change could be committed
    seen = three.db.admin.settings().lsn
    outcomes: dict[str, object] = {}

    def operate(policy: str) -> None:
        with connect_sync(three.uri()) as db:
            try:
                outcomes[policy] = db.admin.change_settings(SetPolicy(policy=policy), based_on=seen).lsn
            except RedwireError as error:
                outcomes[policy] = error.code

    operators = [threading.Thread(target=operate, args=(policy,)) for policy in ("majority", "ack_n=2")]
    for operator in operators:
        operator.start()
    for operator in operators:
        operator.join()
    lsns = [lsn for lsn in outcomes.values() if isinstance(lsn, int)]
    assert len(lsns) == 1
    assert Code.SETTINGS_CHANGED in outcomes.values()
    view = three.db.admin.settings()
    assert (view.lsn, outcomes[view.policy]) == (lsns[0], lsns[0])


def test_a_region_that_burned_down_is_taken_out_of_the_policy(three: Any) -> None:
    token = three.fill("c", 50)
    three.kill("us-1")

    def refused() -> bool:
        try:
            three.db.put("c", "x", {}, timeout_s=1.0)
        except Refused as error:
            return error.code is Code.MISSING_REGIONS
        except (NotConfirmed, UnknownOutcome):
            pass
        return False

    three.until(refused, "writes are refused for the missing region")
    wanted = SetPolicy(policy="majority")
    with pytest.raises(RedwireError) as caught:
        three.db.admin.change_settings(wanted, timeout_s=2.0)
    assert caught.value.code is Code.MISSING_REGIONS
    with pytest.raises(RequestInvalid, match="eu-1 leads"):
        three.db.admin.change_settings(wanted, lost=["eu"])
    changed = three.db.admin.change_settings(wanted, lost=["us"])
    assert "given up: us-1" in changed.text
    receipt = three.db.put("c", "y", {}).receipt
    assert {ack.region for ack in receipt.acks} == {"eu", "ap"}
    three.start_node("us-1")
    everywhere(three, changed.lsn)
    three.converge()
    assert len(three.documents("us-1", "c", token)) >= 51
    three.check_same_log()


def test_a_region_that_burned_down_with_the_primary_is_taken_out_of_the_policy(three: Any) -> None:
    token = three.fill("c", 50)
    three.converge()
    three.kill("eu-1")
    three.set_role("eu-1", "replica")
    assert three.terminate("us-1") == 0
    three.set_role("us-1", "primary")
    mark = three.mark("us-1")
    three.start_node("us-1", "--take-over", "--lost", "eu-1")
    three.wait_log("us-1", "begins at", since=mark)
    wanted = SetPolicy(policy="majority")
    with pytest.raises(RedwireError) as caught:
        three.db.admin.change_settings(wanted, timeout_s=10)
    assert caught.value.code is Code.MISSING_REGIONS
    quorum = three.until(lambda: three.status("us-1").quorum.why, "the region to be missed")
    assert "no voter in reach in eu" in quorum and "serves writes" not in three.said("us-1", mark)
    changed = three.db.admin.change_settings(wanted, lost=["eu"])
    assert "given up: eu-1" in changed.text
    assert {ack.region for ack in three.db.put("c", "y", {}).receipt.acks} == {"us", "ap"}
    three.wipe("eu-1")
    three.start_node("eu-1")
    everywhere(three, changed.lsn)
    three.converge()
    assert len(three.documents("eu-1", "c", token)) == 51


def test_a_change_that_its_primary_did_not_live_to_commit_is_committed_by_the_next_reign(three: Any) -> None:
    three.fill("c", 10)
    for node in ("us-1", "ap-1"):
        three.pause(node)
    with pytest.raises(NotConfirmed):
        three.db.admin.change_settings(SetPolicy(policy="majority", floor="majority"))
    assert "majority" in three.at("eu-1").admin.settings().pending
    with pytest.raises(Refused, match="on its way and not committed"):
        three.db.admin.change_settings(SetPolicy(policy="majority", floor="majority"))
    with pytest.raises(RedwireError):
        three.db.put("c", "held", {}, timeout_s=1.0)
    with pytest.raises(Refused) as second:
        three.db.admin.change_settings(SetPolicy(policy="ack_n=2"))
    assert second.value.code is Code.SETTINGS_CHANGED
    three.kill("eu-1")
    for node in ("us-1", "ap-1"):
        three.resume(node)
    three.lead("eu-1")
    view = three.db.admin.settings()
    assert (view.policy, view.floor, view.pending) == ("majority", "majority", "")
    everywhere(three, view.lsn)
    three.kill("us-1")
    assert three.db.put("c", "after", {}, timeout_s=20).receipt.achieved == "majority"
    three.start_node("us-1")
    three.converge()
    three.check_same_log()


def test_a_binding_counts_from_its_record_on(three: Any) -> None:
    changed = three.db.admin.change_settings(BindRegion("ap-1", "us"))
    three.kill("us-1")
    receipt = three.db.put("c", "x", {}, timeout_s=20).receipt
    assert {(ack.node, ack.region) for ack in receipt.acks} >= {("eu-1", "eu"), ("ap-1", "us")}
    assert receipt.achieved == "regions(eu,us)"
    shape = three.until(
        lambda: {r.region for r in three.db.topology().replicas} == {"us"}, "the topology shows the binding"
    )
    assert shape and changed.lsn


def test_a_node_joins_as_a_reader_is_promoted_and_leaves(fleet: Any) -> None:
    four = fleet("eu-1", "us-1", "ap-1", "sa-1", start=False)
    for node in four.nodes[:3]:
        path = four.config_path(node)
        document = yaml.safe_load(path.read_text())
        document["cluster"]["members"] = [m for m in document["cluster"]["members"] if m["id"] != "sa-1"]
        path.write_text(yaml.safe_dump(document))
    four.up("eu-1", "us-1", "ap-1")
    four.fill("c", 20)
    admin, addr = four.db.admin, f"127.0.0.1:{four.ports['sa-1']}"
    admin.change_settings(AddMember(node="sa-1", region="sa", addr=addr))
    with pytest.raises(Refused, match="sa-1 cannot be a voter yet: not connected"):
        admin.change_settings(PromoteMember("sa-1"), timeout_s=3)
    four.start_node("sa-1")
    four.converge()
    with pytest.raises(RedwireError, match="no voter in sa"):
        admin.change_settings(SetPolicy(policy="regions(eu,sa)"))
    admin.change_settings(PromoteMember("sa-1"))
    admin.change_settings(SetPolicy(policy="regions(eu,sa)"))
    assert {"eu", "sa"} <= {ack.region for ack in four.db.put("c", "x", {}).receipt.acks}
    assert four.terminate("us-1") == 0
    four.set_role("us-1", "primary")
    mark = four.mark("us-1")
    four.start_node("us-1", "--take-over", "--lost", "sa-1")  # whom its file does not name
    four.wait_log("us-1", "stopped: TERM_TAKEN", since=mark)
    four.set_role("us-1", "replica")
    four.start_node("us-1")
    with pytest.raises(RequestInvalid, match="can never be met"):
        admin.change_settings(RemoveMember("sa-1"))
    with pytest.raises(RequestInvalid, match="eu-1 leads"):
        admin.change_settings(RemoveMember("eu-1"))
    admin.change_settings(SetPolicy(policy="majority"))
    mark = four.mark("sa-1")
    admin.change_settings(RemoveMember("sa-1"))
    four.wait_log("sa-1", "sa-1 is no member of this cluster any more", since=mark)
    four.wait_log("sa-1", "knows no member sa-1 of its cluster: it was removed, or not added yet", since=mark)
    four.until(lambda: len(four.db.topology().replicas) == 2, "the topology knows sa-1 no more")
    four.db.put("c", "y", {}, timeout_s=20)
    four.converge("eu-1", "us-1", "ap-1")


def test_a_member_that_comes_with_the_disk_of_another_cluster_is_told_from_one_that_was_removed(
    fleet: Any,
) -> None:
    other = fleet("us-1", policy="local")
    other.stop()
    two = fleet("eu-1", "us-1", "ap-1", policy="majority", start=False)
    shutil.copytree(other.data_dir("us-1"), two.data_dir("us-1"))
    two.up()
    refused = two.wait_log("eu-1", "us-1 knows no member eu-1 of its cluster")
    assert "us-1 has another cluster's disk: redwire doctor" in refused
    two.db.put("c", "x", {})  # ap-1 has it
    assert two.terminate("us-1") == 0
    two.wipe("us-1")
    two.start_node("us-1")
    two.converge()


def test_a_node_moves_to_another_address_and_is_a_voter_all_the_while(three: Any) -> None:
    three.fill("c", 20)
    three.db.admin.change_settings(SetPolicy(policy="majority"))
    assert three.terminate("us-1") == 0
    (port,) = free_ports(1)
    addr = f"127.0.0.1:{port}"
    changed = three.db.admin.change_settings(MoveMember("us-1", addr))
    assert [member.addr for member in changed.members] == [addr]
    path, old = three.config_path("us-1"), f"127.0.0.1:{three.ports['us-1']}"
    path.write_text(path.read_text().replace(old, addr))
    three.ports["us-1"] = port
    three.start_node("us-1")
    three.kill("ap-1")
    assert "us" in {ack.region for ack in three.db.put("c", "x", {}, timeout_s=20).receipt.acks}
    three.until(lambda: addr in {r.addr for r in three.db.topology().replicas}, "clients hear where it is")
    assert three.terminate("eu-1") == 0
    three.start_node("ap-1")
    three.crown("us-1")
    three.start_node("eu-1")
    three.converge()  # the others dial it where it is
    three.check_same_log()


def test_a_file_that_was_right_once_starts_and_one_that_never_was_does_not(three: Any) -> None:
    everywhere(three, three.db.admin.change_settings(SetPolicy(policy="majority")).lsn)
    assert three.terminate("us-1") == 0
    mark = three.mark("us-1")
    three.start_node("us-1")
    three.wait_log("us-1", "the file is outdated", since=mark)
    three.wait_log("us-1", "listens on", since=mark)
    for node in ("us-1", "eu-1"):
        assert three.terminate(node) == 0
        path = three.config_path(node)
        document = yaml.safe_load(path.read_text())
        document["cluster"]["policy"] = "ack_n=2"
        path.write_text(yaml.safe_dump(document))
        mark = three.mark(node)
        three.start_node(node)
        three.wait_log(node, "cluster.policy is ack_n=2 here, is majority in the log", since=mark)
        if node == "us-1":
            three.wait_log(node, "listens on", since=mark)  # it may have been away when that was changed
    assert three.ends("eu-1") == 1


def test_who_may_not_see_the_topology_sees_no_members_and_changes_nothing(three: Any) -> None:
    three.add_user("blind", "sees little", topology_read=False)
    with connect_sync(three.uri(user="blind", password="sees little")) as db:
        view = db.admin.settings()
        assert (view.policy, view.members, view.admins) == ("regions(eu,us)", (), ())
        with pytest.raises(Refused) as caught:
            db.admin.change_settings(SetPolicy(policy="majority"))
        assert caught.value.code is Code.FORBIDDEN
