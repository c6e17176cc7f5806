"""The floor that figures are held against can be measured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(60)
def test_the_floor_under_a_commit_is_measured_for_each_number_of_clients() -> None:
    command = [sys.executable, ROOT / "tests" / "bare_pipeline.py", "0.2"]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    )
    lines = ran.stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == [1, 8, 64]
    for line in lines:
        rate, p50_ms = re.findall(r"([\d,.]+) (?:commits/s|ms)", line)
        assert int(rate.replace(",", "")) > 0 and float(p50_ms) > 0
