from __future__ import annotations

import pytest
from msgspec.structs import replace

from cluster.events import EventKind, level
from cluster.retention import Reason
from redwire.status import (
    Commits,
    Disk,
    Lag,
    NodeStatus,
    Primary,
    Quorum,
    RegionStatus,
    Slot,
    Status,
    Vantage,
)
from regions.lag import Contact, LagConfig, health
from tools.condition import problems, trouble
from tools.monitor import panels
from tools.monitor.commits import commits
from tools.monitor.headline import PROBLEMS_SHOWN, headline, since, title
from tools.monitor.ink import plain
from tools.monitor.rehearsal import BEGAN_MS, IN_FORCE, OUT_SINCE_S, document
from tools.monitor.watch import NOTICE_MS, Arrived, Lost, Watch


def arrived(status: Status, at_ms: int, addr: str = "eu-1:5050", role: str = "admin") -> Arrived:
    return Arrived(status, addr, role, at_ms)


def lines(found) -> list[str]:
    return [plain(line).rstrip() for line in found]


def test_before_the_first_document_it_says_that_it_asks() -> None:
    watch = Watch()
    view = watch.view(0)
    assert view.waiting and lines(headline(view, 80)) == ["○ asking for the first document"]
    watch.take(Lost("", "connection refused", 1_000))
    assert lines(headline(watch.view(4_000), 80)) == [
        "✗ no node answers, for 3.0 s by now; trying on",
        "  connection refused",
    ]


def test_what_the_document_does_not_date_began_when_it_was_first_seen() -> None:
    watch, well = Watch(), document(0)
    watch.take(arrived(well, 0))
    watch.take(arrived(replace(document(7), quorum=Quorum(met=False, why="no voter in us")), 7_000))
    watch.take(arrived(replace(document(9), quorum=Quorum(met=False, why="no voter in us")), 9_000))
    (line,) = [line for line in lines(headline(watch.view(9_000), 80)) if "REFUSED" in line]
    assert line.startswith("✗ WRITES REFUSED  no voter in us  since 03:00:07 (2.0 s)")


def test_a_long_reason_has_a_line_of_its_own_and_since_when_is_never_cut() -> None:
    watch = Watch()
    why = "no voter in reach in 2 of eu, us, ap, south-america-east, south-africa-north"
    watch.take(arrived(document(0), 0))
    watch.take(arrived(replace(document(40), quorum=Quorum(met=False, why=why)), 40_000))
    found = lines(headline(watch.view(40_000), 80))
    assert found[0] == f"{'✗ WRITES REFUSED  policy regions(eu,us)':<57}since 03:00:40 (0.0 ms)"
    assert found[1] == f"  {why}"
    assert len(found) <= PROBLEMS_SHOWN + 2
    assert why in lines(headline(watch.view(40_000), 160))[0]


def test_what_was_so_in_the_first_document_may_have_begun_before() -> None:
    watch = Watch()
    watch.take(arrived(replace(document(0), quorum=Quorum(met=False)), 0))
    view = watch.view(0)
    (problem,) = [problem for problem in view.problems if problem.kind is problems.Kind.QUORUM]
    assert since(view, problem) == "since 03:00:00 (0.0 ms) or before"


def test_time_goes_on_between_documents_and_by_the_clock_of_the_node() -> None:
    watch = Watch()
    watch.take(arrived(document(3), 500))
    assert watch.view(2_500).now_ms == BEGAN_MS + 5_000
    watch.take(arrived(replace(document(3), vantage=Vantage(node="eu-1")), 3_000))
    assert watch.view(4_000).now_ms is None
    assert "time ?" in plain(title(watch.view(4_000), 80)[0])


def test_a_node_that_does_not_answer_is_told_and_then_the_move_to_another() -> None:
    watch = Watch()
    watch.take(arrived(document(0), 0))
    watch.take(Lost("eu-1:5050", "it is silent", 2_000))
    text = lines(headline(watch.view(3_000), 80))
    assert text[0] == "? WRITES ?  last word 3.0 s ago"
    assert text[1].startswith("✗ eu-1 does not answer, what stands here is old")
    moved = replace(document(4), vantage=Vantage(node="us-1", source="us-1", at_ms=BEGAN_MS + 4_000))
    watch.take(arrived(moved, 4_000, "us-1:5050"))
    assert "▲ now at us-1: eu-1 was lost (it is silent)" in lines(headline(watch.view(4_000), 80))
    assert watch.view(4_000 + NOTICE_MS).notice == "", "it is news for a while only"


def test_when_no_node_answers_that_is_the_first_problem() -> None:
    watch = Watch()
    watch.take(arrived(document(0), 0))
    for addr in ("eu-1:5050", "us-1:5050"):
        watch.take(Lost(addr, "refused", 1_000))
    assert watch.view(1_000).problems[0].text == "no node answers, what stands here is old: refused"


def test_more_problems_than_there_is_room_for_are_counted() -> None:
    watch = Watch()
    sick = tuple(
        NodeStatus(id=f"n-{n}", region="eu", declared="eu", health="unhealthy", acked_at_ms=BEGAN_MS)
        for n in range(9)
    )
    watch.take(arrived(replace(document(0), nodes=sick, regions=()), 0))
    found = lines(headline(watch.view(0), 80))
    assert len(found) == PROBLEMS_SHOWN + 2
    assert found[PROBLEMS_SHOWN].startswith("✗ and 7 more: n-2 is unhealthy; n-3")


def test_the_next_trouble_is_the_soonest_that_has_not_come_yet() -> None:
    watch = Watch()
    for second in range(20):
        watch.take(arrived(document(second), second * 1_000))
    view = watch.view(19_000)
    assert view.troubles[0].in_ms == 0
    assert lines(headline(view, 80))[-1] == "  next in 45 min 41 s  ✗ ap-1 loses its slot by bytes_max"


def test_a_follower_that_is_as_far_behind_as_the_way_is_long_is_no_trouble() -> None:
    watch = Watch()
    for second in range(40):
        ap = document(0).nodes[4]
        near = replace(ap, slot=Slot(state="ok"), lag=replace(ap.lag, records=4, ms=200))
        watch.take(arrived(replace(document(second), nodes=(near,)), second * 1_000))
    view = watch.view(39_000)
    assert [each.kind for each in view.troubles] == [trouble.Kind.CERTIFICATE]
    assert (problems.Kind.LAG, "ap-1") not in [problem.key for problem in view.problems]
    assert "○ behind 200 ms" in lines(panels.nodes(view, 80))[1]


def test_a_chosen_node_that_is_gone_gives_way_to_the_first() -> None:
    watch = Watch()
    watch.take(arrived(document(0), 0))
    assert watch.view(0, selected="us-1").selected == "us-1"
    assert watch.view(0, selected="gone").selected == "eu-1"


def test_a_newer_schema_and_a_role_that_may_not_change_are_told() -> None:
    watch = Watch()
    watch.take(arrived(replace(document(0), schema=99), 0, role="read"))
    text = plain(title(watch.view(0), 120)[0])
    assert "schema 99 is newer than this" in text and "read, not admin" in text


@pytest.mark.parametrize("role", ["admin", "write"])
def test_eighty_columns_have_room_for_who_leads_who_answers_as_whom_and_the_time(role: str) -> None:
    watch = Watch()
    watch.take(arrived(replace(document(0), watermark=1_234_567_890, term=1_234), 0, role=role))
    narrow, wide = (plain(title(watch.view(0), width)[0]) for width in (80, 120))
    for text in ("shop", "primary eu-1", "seen from eu-1", role, "03:00:00 UTC"):
        assert text in narrow
    assert "…" not in narrow and "term" not in narrow and len(narrow) == 80
    assert "term 1234" in wide and "LSN 1,234,567,890" in wide


def test_an_empty_document_is_drawn_as_unknown_and_never_as_zero() -> None:
    watch = Watch()
    watch.take(
        arrived(Status(nodes=(NodeStatus(id="x"),), regions=(RegionStatus(name="eu", nodes=("x",)),)), 0)
    )
    view = watch.view(0, selected="x")
    for panel in (panels.regions, panels.nodes, panels.node_detail, panels.slots, panels.disks):
        text = "\n".join(lines(panel(view, 200))).replace("p50", "").replace("p99", "").replace("0 of 1", "")
        assert not any(char.isdigit() for char in text), text
    stages = lines(commits(view, 80))[7:13]
    assert all(line.split()[-4] == "?" == line.split()[-2] for line in stages), stages
    assert "? unknown" in lines(panels.nodes(view, 200))[1]
    assert lines(panels.slots(view, 80))[1].split() == ["x", "?", "unknown", "?", "?", "?"]
    assert lines(headline(view, 80))[0] == "▲ WRITES ?  not known from here; policy ?"


def test_panels_of_nothing_say_so() -> None:
    watch = Watch()
    watch.take(arrived(Status(), 0))
    view = watch.view(0)
    assert lines(panels.regions(view, 80)) == ["no regions are known"]
    assert lines(panels.nodes(view, 80)) == ["no nodes are known"]
    assert lines(panels.slots(view, 80)) == ["no slots are known"]
    assert lines(panels.events(view, 80)) == ["no events are known"]
    assert lines(panels.pressing(view, 80)) == ["nothing beyond that"]
    assert panels.node_detail(view, 80) == [] == panels.disks(view, 80)


def test_words_that_are_not_known_stand_as_they_are_in_every_panel() -> None:
    watch = Watch()
    node = replace(document(0).nodes[1], health="radiant", slot=Slot(state="glowing"), role="muse")
    node = replace(node, lag=replace(node.lag, state="drifting"), disk=replace(node.disk, state="humming"))
    watch.take(arrived(replace(document(0), nodes=(node,), primary=Primary(state="leading")), 0))
    view = watch.view(0)
    text = "\n".join(lines([*panels.nodes(view, 120), *panels.slots(view, 80), *panels.disks(view, 80)]))
    for word in ("▲ radiant", "muse", "▲ drifting", "▲ glowing", "▲ humming"):
        assert word in text


def test_a_region_is_told_with_who_completes_and_what_if_it_goes() -> None:
    watch = Watch()
    watch.take(arrived(document(50), 0))
    found = lines(panels.regions(watch.view(0), 110))
    assert found[1].split()[:4] == ["eu", "(leads)", "●", "2"]
    assert found[2].endswith("98 %  ▲ stop: no voter in reach in us") and "▲ 1 of 2" in found[2]
    assert found[3].endswith("2 %  ● go on") and "▲ lacks 2,280" in found[3]


def test_what_is_far_off_is_one_line_of_the_overview() -> None:
    watch = Watch()
    watch.take(arrived(document(0), 0))
    assert lines(panels.pressing(watch.view(0), 80))[-1] == (
        "4 more, the first in 204 d: ap-1 certificate expires"
    )
    assert len(panels.troubles(watch.view(0), 80)) == 1 + 7


def test_commits_show_each_stage_and_who_completes() -> None:
    watch = Watch()
    watch.take(arrived(document(0), 0))
    text = lines(commits(watch.view(0), 80))
    assert [line.split()[0] for line in text[7:13]] == ["queue", "local", "wire", "remote", "apply", "total"]
    assert text[-1] == "COMPLETED BY  us-1 98 %  ap-1 2 %  eu-2 <1 %"
    watch.take(arrived(replace(document(1), commits=Commits()), 1_000))
    text = lines(commits(watch.view(1_000), 80))
    assert text[0].startswith("COMMITS/S  ?") and text[-1].endswith("nobody lately, or unknown")


def test_every_panel_keeps_to_its_width() -> None:
    watch = Watch()
    for second in range(60):
        watch.take(arrived(document(second), second * 1_000))
    view = watch.view(60_000, selected="us-2")
    for width in (78, 80, 100, 160, 200):
        for panel in (
            *(panels.regions, panels.nodes, panels.node_detail, panels.slots, panels.disks),
            *(panels.events, panels.troubles, panels.pressing, commits, headline),
        ):
            assert all(sum(span.cells for span in line) <= width for line in panel(view, width)), (
                panel,
                width,
            )


def test_the_made_up_cluster_speaks_as_nodes_do() -> None:
    found = document(60)
    for event in found.events:
        assert event.level == level(EventKind(event.kind)).value
    assert {node.slot.bound for node in found.nodes} <= {"", *(reason.value for reason in Reason)}
    assert found.settings.lsn == IN_FORCE.lsn and found.settings.floor == IN_FORCE.view().commit_rule


@pytest.mark.parametrize("second", [0, OUT_SINCE_S, OUT_SINCE_S + 3, OUT_SINCE_S + 6, 150])
def test_the_made_up_rows_are_what_a_primary_writes(second: int) -> None:
    found, now_ms = document(second), BEGAN_MS + second * 1_000
    config = LagConfig(replica_timeout_ms=IN_FORCE.cluster.replica_timeout_ms)
    assert (found.own.slot, found.own.sent) == (Slot(), None), "a primary follows nobody"
    for row in found.nodes:
        contact = Contact(bool(row.connected), streaming=True, acked_ms=row.acked_at_ms)
        assert row.why == health(contact, (), config, now_ms).reason
        assert row.health == ("unhealthy" if row.why else "healthy")
        lacks = (found.head or 0) - (row.applied or 0)
        match row.lag.state:
            case "caught_up":
                assert row.lag == Lag(state="caught_up", records=0, bytes=0, ms=0, catch_up_ms=0)
                assert lacks == 0
            case "behind":
                assert row.lag.records == lacks > 0
            case state:
                assert state == "unknown" and row.lag.since_at_ms == row.acked_at_ms
        timeout_ms = config.replica_timeout_ms
        assert (row.lag.state == "unknown") is not contact.heard_within(timeout_ms, now_ms)
        heard = now_ms - (row.acked_at_ms or 0) <= timeout_ms
        told = (row.role, row.declared, row.version, row.disk, row.certificate_ends_at_ms)
        assert (told == ("unknown", "", "", Disk(), None)) is not heard
