from __future__ import annotations

from pathlib import Path

from cluster import damage as damage_module
from cluster.damage import Damage
from cluster.errors import StateCorrupt
from cluster.events import EventKind
from redwire.errors import Code
from redwire.position import NodeId


def test_each_finding_is_one_event_and_every_caller_is_told_without_our_paths() -> None:
    events: list[tuple[EventKind, str]] = []
    damage = Damage(NodeId("eu-1"), lambda kind, text: events.append((kind, text)))
    for ident in ("a", "b", "a"):
        refused = damage.told(StateCorrupt(Path("/data/state.db"), f"the document {ident}"))
        assert refused.code is Code.DAMAGED and not refused.retry
        assert "eu-1" in str(refused) and "/data" not in str(refused)
    assert [kind for kind, _ in events] == [EventKind.STATE_DAMAGED] * 2
    assert all("/data/state.db is damaged: the document" in text for _, text in events)


def test_findings_beyond_the_bound_make_no_events() -> None:
    events: list[str] = []
    damage = Damage(NodeId("eu-1"), lambda kind, text: events.append(text))
    for number in range(damage_module.FINDINGS_MAX + 5):
        damage.told(StateCorrupt(Path("/data/state.db"), f"document {number}"))
    assert len(events) == damage_module.FINDINGS_MAX
