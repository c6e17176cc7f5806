"""The command line of `redwire-node`: what is wrong usage, and what was meant."""

from __future__ import annotations

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
