"""Large documents over lines that take longer for one than a silence may last: they arrive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from cluster.replica import SILENCE_MS
from redwire import connect_sync
from redwire.link import DEAD_AFTER_TICKS, TICK_S
from redwire.record import DOC_BYTES_MAX
from tests.cluster.narrow import NarrowLine

pytestmark = pytest.mark.slow

BODY = "x" * (DOC_BYTES_MAX // 4)
TAKES_S = 1.5 * max(SILENCE_MS / 1_000, DEAD_AFTER_TICKS * TICK_S)
RATE = len(BODY) / TAKES_S
DEADLINE_S = 4 * TAKES_S


@pytest.fixture
def narrow(fleet: Any) -> Iterator[Any]:
    """A cluster whose two followers have no wide line to its primary, and that line."""
    shop = fleet("eu-1", "us-1", "ap-1", start=False, policy_timeout_ms=int(DEADLINE_S * 1_000))
    with NarrowLine(shop.ports["eu-1"], RATE) as line:
        shop.line = line
        yield shop


def test_a_follower_behind_a_narrow_line_takes_a_large_document(narrow: Any) -> None:
    for node in ("us-1", "ap-1"):
        path = narrow.config_path(node)
        document = yaml.safe_load(path.read_text())
        document["node"]["dial"] = {"eu-1": f"127.0.0.1:{narrow.line.port}"}
        path.write_text(yaml.safe_dump(document))
    narrow.up()
    written = narrow.db.put("large", "one", {"body": BODY}, timeout_s=DEADLINE_S)
    assert written.receipt.completed_by.node != "eu-1"
    assert "silent" not in narrow.said("us-1") + narrow.said("ap-1")


def test_a_client_behind_a_narrow_line_writes_a_large_document(narrow: Any) -> None:
    narrow.up()
    uri = narrow.uri("eu-1", discovery="off").replace(f":{narrow.ports['eu-1']}", f":{narrow.line.port}")
    with connect_sync(uri) as db:
        assert not db.put("large", "one", {"body": BODY}, timeout_s=DEADLINE_S).receipt.duplicate
