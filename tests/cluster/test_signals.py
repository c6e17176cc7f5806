"""Signals from the first moment of a node's process to its last."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from redwire.errors import NotConfirmed, UnknownOutcome

pytestmark = pytest.mark.slow

SOON_S = 20.0


def hears(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal, as Linux says."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (caught,) = (line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def begun(shop: Any, *arguments: str) -> subprocess.Popen[str]:
    """`redwire-node` for eu-1, in the moment in which it begins to hear signals."""
    command = [sys.executable, "-m", "cluster.start", *arguments, "--config", str(shop.config_path("eu-1"))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    shop.until(lambda: hears(process, signal.SIGTERM) or process.poll() is not None, "it hears signals")
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_first_moment_ends_the_node_like_any_other(
    fleet: Any, number: signal.Signals
) -> None:
    process = begun(fleet("eu-1", start=False))
    process.send_signal(signal.SIGHUP)
    process.send_signal(number)
    said, _ = process.communicate(timeout=SOON_S)
    assert process.returncode == 0
    assert f"{number.name}: stopping\n" in said and said.endswith("stopped\n")
    assert "Traceback" not in said


def test_a_node_whose_standard_streams_are_closed_serves_and_ends_like_any_other(fleet: Any) -> None:
    shop = fleet("eu-1", start=False)
    command = [sys.executable, "-m", "cluster.start", "--config", str(shop.config_path("eu-1"))]
    process = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command])
    shop.db.put("c", "x", {"n": 1}, timeout_s=SOON_S)
    process.terminate()
    assert process.wait(SOON_S) == 0


def test_a_check_is_ended_by_ctrl_c_without_a_word(fleet: Any) -> None:
    process = begun(fleet("eu-1", start=False), "check")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=SOON_S)
    assert (process.returncode, said) == (-signal.SIGINT, "")


def stopping(shop: Any) -> None:
    """eu-1 in the middle of its end: its disk hangs under the last sync."""
    shop.disk("eu-1", "sync /wal/ hang")
    with pytest.raises((NotConfirmed, UnknownOutcome)):
        shop.db.put("c", "hangs", {"n": 1}, timeout_s=2)
    shop.signal_node("eu-1", signal.SIGTERM)
    shop.wait_log("eu-1", "SIGTERM: stopping")


def test_a_node_that_stops_is_not_cut_short_by_another_sigterm(fleet: Any) -> None:
    shop = fleet("eu-1", faults=True)
    stopping(shop)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
        shop.signal_node("eu-1", number)
    shop.disk("eu-1")
    assert shop.ends("eu-1") == 0
    assert "eu-1 stopped" in shop.said("eu-1")


def test_a_node_that_stops_ends_at_once_by_ctrl_c_and_has_what_is_on_disk(fleet: Any) -> None:
    shop = fleet("eu-1", faults=True)
    shop.db.put("c", "before", {"n": 0})
    stopping(shop)
    shop.signal_node("eu-1", signal.SIGINT)
    assert shop.ends("eu-1") == -signal.SIGINT
    shop.disk("eu-1")
    assert "Traceback" not in shop.said("eu-1")
    shop.lead("eu-1")
    assert "before" in shop.documents("eu-1", "c")
