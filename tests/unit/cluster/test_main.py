"""The command line of `redwire-node`: what is wrong usage, and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.main import main


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
