"""The `redwire-node` command: run a node, check what it is told, or have a running one reload."""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import Any

import anyio

from cluster.config import NodeConfig, ReplicationRole, parse_node_config
from cluster.credentials import CredentialSet, NodeCredentials, load, wall_ms
from cluster.door import raise_file_limit
from cluster.errors import ReloadFailed
from cluster.log_config import Level
from cluster.memory import give_back_large_blocks
from cluster.namesakes import namesakes
from cluster.notes import Notes
from cluster.opening import TakeOver
from cluster.process import run
from cluster.reload import ask
from cluster.signals import Signals
from cluster.threads import scarce
from cluster.yaml_file import load_yaml
from redwire import __version__
from redwire.errors import ConfigInvalid, RedwireError
from redwire.position import NodeId
from redwire.spelling import guess

ACTIONS = ("run", "check", "reload")
SWITCH_INTERVAL_S = 1e-4
"""With Python's default of 5 ms a busy event loop keeps the disk and apply threads from the interpreter for
seconds.
"""
GC_THRESHOLDS = (10_000, 20, 50)
"""What a write leaves behind is freed by its last reference: looking for cycles every 700 objects, Python's
default, takes a twentieth of the CPU under load and finds next to nothing.
"""

LOOK_S = 2.0
"""A check that takes no longer says only what it has found."""
TOLD_MAX = 20
"""Errors of one file: more fill a screen, and are mostly one that was made many times."""


def main(arguments: list[str] | None = None, signals: Signals | None = None) -> int:
    """Run the command; the exit code: 0 done, 1 error, 2 usage. `signals` are held, if they are given."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.lost and not asked.take_over:
        parser.error("--lost says what --take-over gives up")
    if signals is not None and asked.action != "run":
        signals.let_go()
    config: NodeConfig | None = None
    try:
        config = parse_node_config(load_yaml(asked.config), asked.config)
        match asked.action:
            case "check":
                take_over = _take_over(config, asked) is not None
                return _check(config, asked.config, take_over=take_over, as_json=asked.json)
            case "reload":
                return _reload(config, as_json=asked.json)
            case _:
                return _run(config, signals or Signals(), _take_over(config, asked))
    except RedwireError as error:
        others = error.others if isinstance(error, ConfigInvalid) else ()
        if asked.json:
            print(json.dumps(_answer(config, [error, *others], [])))
            return 1
        for each in (error, *others[: TOLD_MAX - 1]):
            print(f"redwire-node: {each}", file=sys.stderr)
        if len(others) >= TOLD_MAX:
            print(f"redwire-node: and {len(others) + 1 - TOLD_MAX} more", file=sys.stderr)
        return 1
    except (RuntimeError, MemoryError) as error:  # before there is a log
        refused = scarce(error)
        if refused is None:
            raise
        print(f"redwire-node: {refused}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="redwire-node", description="One node of a redwire cluster.")
    parser.add_argument(
        "action",
        nargs="?",
        type=_action,
        choices=ACTIONS,
        default="run",
        help="run the node (default), check what it would meet, or have it take new certificates",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the node's YAML file")
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="lead although this data directory last followed another node",
    )
    parser.add_argument(
        "--lost",
        metavar="NODE,…",
        default="",
        help="with --take-over: give up what only these hold, which are gone for good",
    )
    parser.add_argument(
        "--json", action="store_true", help="what check and reload answer, as one JSON object"
    )
    parser.add_argument("--version", action="version", version=f"redwire-node {__version__}")
    return parser


def _action(word: str) -> str:
    """What argparse makes of the action; it says itself what there is, but not what was meant."""
    hint = "" if word in ACTIONS else guess(word, ACTIONS)
    if hint:
        raise argparse.ArgumentTypeError(f"invalid choice: {word!r}; {hint}")
    return word


def _lost(names: str) -> frozenset[NodeId]:
    """Those that are named, whoever they are: the log knows, which is not open yet."""
    return frozenset(NodeId(name.strip()) for name in names.split(",") if name.strip())


def _take_over(config: NodeConfig, asked: argparse.Namespace) -> TakeOver | None:
    """The order to lead, if it was given. Raises `ConfigInvalid` where the file says to follow."""
    if not asked.take_over:
        return None
    if config.node.role is not ReplicationRole.PRIMARY:
        text = f"is {config.node.role.value}: --take-over has a node lead"
        hint = "write role: primary here, and role: replica in the file of the node that led"
        raise ConfigInvalid(asked.config, "node.role", text, hint=hint)
    return TakeOver(_lost(asked.lost))


def _run(config: NodeConfig, signals: Signals, take_over: TakeOver | None) -> int:
    for error in namesakes(sys.path):
        raise error
    signals.hold()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    gc.freeze()  # modules stay for good: no need to look at them again
    gc.enable()  # `cluster.start` waits for this
    raise_file_limit()
    give_back_large_blocks()
    fast = find_spec("uvloop") is not None  # the extra `fast`
    with closing(Notes(config.node.id, config.log)) as notes:
        try:
            credentials = None
            if config.tls is not None:
                host = config.advertised.host
                credentials = NodeCredentials(config.tls, config.cluster.name, config.node.id, host)
            node = partial(run, config, credentials, notes, signals, take_over)
            return anyio.run(node, backend_options={"use_uvloop": fast})
        except RedwireError as error:
            notes(f"stopped: {error}", Level.ERROR)
            return 1
        except (RuntimeError, MemoryError, ExceptionGroup) as error:
            refused = scarce(error)
            if refused is None:
                raise
            notes(f"stopped: {refused}", Level.ERROR)
            return 1


def _check(config: NodeConfig, file: str, *, take_over: bool, as_json: bool) -> int:
    """Say everything that is wrong, not only the first of it."""
    from cluster.inspection import inspect  # a node that runs has no need of it

    looks = Timer(LOOK_S, _say_what_takes_long, (config,))
    looks.daemon = True
    if not as_json:
        looks.start()
    try:
        found = inspect(config, wall_ms(), take_over=take_over)
    finally:
        looks.cancel()
    warnings = [*map(str, found.ends + found.warnings + found.remarks)]
    if as_json:
        print(json.dumps(_answer(config, found.errors, warnings, found.shown)))
        return 1 if found.errors else 0
    for error in found.errors:
        print(f"redwire-node: {error}", file=sys.stderr)
    for warning in warnings:
        print(f"redwire-node: warning: {warning}", file=sys.stderr)
    if found.errors:
        return 1
    print(f"{file}: {config.node.id} of {config.cluster.name} is in order")
    return 0


def _say_what_takes_long(config: NodeConfig) -> None:
    what = "all of its log and state, up to half a minute for each million documents"
    print(f"redwire-node: looking through {config.node.data_dir}: {what}", file=sys.stderr, flush=True)


def _reload(config: NodeConfig, *, as_json: bool) -> int:
    """Check the files here before the node is told: what is bad goes no further."""
    if config.tls is None:
        raise ReloadFailed("tls is off: there is nothing to reload")
    now_ms = wall_ms()
    shown = load(config.tls, config.cluster.name, config.node.id, now_ms)
    answer = ask(Path(config.node.data_dir), shown.sha256)
    warnings = [*map(str, shown.ending(now_ms) + shown.unnamed(config.advertised.host))]
    if as_json:
        print(json.dumps(_answer(config, [], warnings, shown)))
        return 0
    for warning in warnings:
        print(f"redwire-node: warning: {warning}", file=sys.stderr)
    print(f"{config.node.id} of {config.cluster.name}: {answer.message}")
    return 0


def _answer(
    config: NodeConfig | None,
    errors: Sequence[RedwireError],
    warnings: Sequence[str],
    shown: CredentialSet | None = None,
) -> dict[str, Any]:
    """What `check` and `reload` answer to programs: its keys are always there, times in ms since 1970."""
    return {
        "ok": not errors,
        "cluster": config.cluster.name if config is not None else None,
        "node": config.node.id if config is not None else None,
        "errors": [
            {
                "code": error.name,
                "message": error.without_code,
                "hint": error.hint,
                "facts": error.facts,
            }
            for error in errors
        ],
        "warnings": list(warnings),
        "certificate": None
        if shown is None
        else {
            "ends_at_ms": shown.not_after_ms,
            "days_left": shown.days_left(wall_ms()),
            "sha256": shown.sha256,
        },
    }


if __name__ == "__main__":
    sys.exit(main())
