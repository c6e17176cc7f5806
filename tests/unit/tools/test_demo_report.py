from __future__ import annotations

import json

import pytest

from tools.demo.report import Report


@pytest.fixture
def report() -> Report:
    return Report(quiet=False)


def test_a_check_that_does_not_hold_makes_the_demo_fail(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    with report.scene("one") as scene:
        report.check("the sun rises", True)
        report.check("water runs uphill", False, "it ran [down]")
        scene.outcome = "mixed"
    report.summary()
    assert [check.name for check in report.failed] == ["water runs uphill"]
    assert report.document()["ok"] is False
    shown = capsys.readouterr().out
    assert "FAIL water runs uphill: it ran [down]" in shown
    assert "FAILED: water runs uphill" in shown
    assert "failed: 1 checks hold, 1 do not" in shown


def test_without_a_failed_check_the_demo_passes(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    with report.scene("one") as scene:
        report.check("the sun rises", True)
        scene.outcome = "it rose"
        scene.facts["times"] = 1
    report.summary()
    shown = capsys.readouterr().out
    assert "passed: 1 checks hold, 0 do not" in shown
    document = json.loads(json.dumps(report.document()))
    assert document["ok"] is True
    (told,) = document["scenes"]
    assert (told["title"], told["outcome"], told["facts"]["times"]) == ("one", "it rose", 1)
    assert told["checks"] == [{"name": "the sun rises", "ok": True, "detail": ""}]


def test_no_line_off_a_terminal_ends_in_blanks(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    with report.scene("one"):
        report.note("a word " * 40)
        report.check("a fact", True, "a word " * 40)
        report.table(("node", "ms"), [("eu-1", "1.5"), ("us-1", "")])
    report.summary()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 15 and [line for line in lines if line != line.rstrip()] == []


def test_a_scene_that_breaks_off_has_no_outcome(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), report.scene("one"):
        raise ValueError
    report.summary()
    assert "did not end" in capsys.readouterr().out


def test_a_bar_off_a_terminal_is_a_line_for_each_quarter(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    with report.progress("loading", 100) as bar:
        for done in range(0, 101, 10):
            bar.at(done)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0].strip() for line in lines] == [
        "30 of 100",
        "50 of 100",
        "80 of 100",
        "100 of 100",
    ]


def test_columns_of_numbers_are_set_to_the_right(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    report.table(("who", "ms"), [("eu-1", "1.5"), ("us-1", "80.0")])
    rows = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert rows[2:] == ["| eu-1 |  1.5 |", "| us-1 | 80.0 |"]


def test_a_quiet_report_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(quiet=True)
    with report.scene("one"):
        report.note("a")
        report.check("b", False)
        report.table(("c",), [("d",)])
        with report.progress("e", 1) as bar:
            bar.at(1)
    report.summary()
    assert capsys.readouterr().out == ""
