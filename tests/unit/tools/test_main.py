"""The outermost handler of the command line: every error leaves as one line and an exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.cli.main import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["redwire", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_an_error_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "certs", "issue", "user", "ops", "--authority", str(tmp_path)) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(f"redwire: {tmp_path / 'ca.pem'} cannot be read: No such file")
    assert errors.count("\n") == 1


def test_an_error_of_the_system_names_its_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert run(monkeypatch, "certs", "init", "--cluster", "shop", "--out", str(tmp_path / "file" / "x")) == 1
    assert capsys.readouterr().err == f"redwire: {tmp_path / 'file' / 'x'}: Not a directory\n"


def test_wrong_usage_is_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "certs", "init") == 2


def test_done_is_exit_code_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(monkeypatch, "certs", "init", "--cluster", "shop", "--out", str(tmp_path)) == 0
