"""The command line of `redwire-node`: what is wrong usage, and what was meant."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cluster import inspection
from cluster.main import TOLD_MAX, main


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("chekc", "argument action: invalid choice: 'chekc'; did you mean check?"),
        ("relaod", "invalid choice: 'relaod'; did you mean reload?"),
        ("stop", "invalid choice: 'stop' (choose from 'run', 'check', 'reload')"),
    ],
)
def test_a_slip_of_an_action_is_told_the_one_that_was_meant(
    capsys: pytest.CaptureFixture[str], action: str, said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([action, "--config", "no-such-file"])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


NODE = """
node: {id: eu-1, region: eu, role: primary, listen: "127.0.0.1:5050", data_dir: data}
tls: {ca: ca.pem, cert: eu-1.pem, key: eu-1.key}
cluster:
  name: shop
  members:
    - {id: eu-1, region: eu, addr: "127.0.0.1:5050"}
    - {id: us-1, region: us, addr: "127.0.0.1:5051"}
"""


def test_a_replica_is_not_told_to_take_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(NODE.replace("role: primary", "role: replica"))
    assert main(["--config", str(file), "--take-over"]) == 1
    said = capsys.readouterr().err
    assert f"{file}: node.role: is replica: --take-over has a node lead" in said
    assert "write role: primary here" in said


def test_a_check_tells_everything_that_is_wrong_in_a_file_but_no_screens_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(NODE.replace("role: primary", "role: leader").replace("region: us", "regoin: us"))
    assert main(["check", "--config", str(file)]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"redwire-node: {file}: node.role: expected primary or replica")
    assert second.startswith(f"redwire-node: {file}: cluster.members[1].regoin: unknown key")
    assert main(["check", "--config", str(file), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [error["facts"]["path"] for error in told["errors"]] == ["node.role", "cluster.members[1].regoin"]

    file.write_text("".join((NODE, *(f"extra{number}: 1\n" for number in range(TOLD_MAX + 5)))))
    assert main(["check", "--config", str(file)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == TOLD_MAX + 1 and lines[-1] == "redwire-node: and 5 more"


@pytest.mark.parametrize(("options", "said"), [((), 1), (("--json",), 0)], ids=["people", "programs"])
def test_a_check_that_takes_long_says_what_it_looks_through(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    said: int,
) -> None:
    look = inspection.inspect

    def slow(*args: Any, **more: Any) -> Any:
        time.sleep(0.2)
        return look(*args, **more)

    file = tmp_path / "node.yaml"
    file.write_text(NODE)
    for long_s, lines in ((0.001, said), (60, 0)):
        monkeypatch.setattr("cluster.main.LOOK_S", long_s)
        monkeypatch.setattr(inspection, "inspect", slow)
        main(["check", "--config", str(file), *options])
        assert capsys.readouterr().err.count("redwire-node: looking through ") == lines


def test_what_is_given_up_goes_with_a_take_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(NODE)
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(file), "--lost", "us-1"])
    assert ended.value.code == 2
    assert "--lost says what --take-over gives up" in capsys.readouterr().err


def test_a_node_that_gets_no_thread_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    (tmp_path / "node.yaml").write_text(NODE)
    monkeypatch.setattr("cluster.main._run", refused)
    assert main(["--config", str(tmp_path / "node.yaml")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("redwire-node: the system gives this process no more threads; raise its limits")
    assert said.count("\n") == 1


def test_a_node_does_not_start_among_packages_of_its_names_that_are_anothers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(NODE)
    (tmp_path / "build_tools-1.0.dist-info").mkdir()
    (tmp_path / "build_tools-1.0.dist-info" / "RECORD").write_text("tools/__init__.py,,\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert main(["--config", str(file)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "redwire-node: the package tools comes from build-tools, not from redwire-cluster;"
    )
    assert said.count("\n") == 1
