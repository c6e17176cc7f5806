"""The answer to a change of the settings: both states, and the members in it once."""

from __future__ import annotations

import cbor2
import pytest
from msgspec.structs import replace

from redwire.message.settings import MemberView, SettingsChanged, SettingsView

EU, US = (
    MemberView(id=f"{region}-1", region=region, addr=f"{region}-1:5050", kind="voter")
    for region in ("eu", "us")
)
AP = MemberView(id="ap-1", region="ap", addr="ap-1:5050", kind="reader")
BEFORE = SettingsView(
    lsn=2,
    policy="majority",
    floor="",
    policy_timeout_ms=10_000,
    replica_timeout_ms=5_000,
    members=(EU, US),
    admins=("ops",),
)
CHANGES = [
    {},
    {"members": (replace(EU, region="us"), US)},
    {"members": (EU, US, AP)},
    {"members": (US,)},
    {"members": (EU, replace(US, kind="reader"))},
    {"policy": "ack_n=1", "floor": "local"},
    {"policy_timeout_ms": 1, "replica_timeout_ms": 2},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("lsn", [0, 9])
def test_the_settings_after_a_change_come_back_as_they_were(change: dict[str, object], lsn: int) -> None:
    after = replace(BEFORE, lsn=lsn or BEFORE.lsn, **change)
    changed = SettingsChanged.between(BEFORE, after, text="so", lsn=lsn, term=4)
    read = SettingsChanged.decode(changed.encode())
    assert read == changed
    assert (read.before, read.after) == (BEFORE, after)


def test_who_stays_as_it_was_stands_in_an_answer_once() -> None:
    after = replace(BEFORE, members=(US, AP))
    plain = cbor2.loads(SettingsChanged.between(BEFORE, after, text="so").encode())
    assert [member["id"] for member in plain["members"]] == ["ap-1"]
    assert plain["left"] == ["eu-1"]
    assert str(plain).count("us-1:5050") == 1
