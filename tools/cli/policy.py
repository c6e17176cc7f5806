"""`redwire policy`: the cluster's commit policy, what it promises, and how it is changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click

from cluster.cluster_config import ClusterConfig, Millis, ReplicaMillis
from redwire.errors import PolicyInvalid
from redwire.handshake import DNS_LABEL
from redwire.message.log import MEMBERS_MAX
from redwire.message.settings import SetPolicy
from redwire.position import NodeId, Region
from redwire.spelling import guess
from regions.binding import Member, Membership, default_policy, require_satisfiable
from regions.commit_policy import AckN, CommitPolicy
from regions.commit_time import Distances
from regions.quorum import ENUMERATED_VOTERS_MAX, at_least
from tools import verdict
from tools.cli.change import How, change, change_options, settings
from tools.cli.connection import uri_option
from tools.cli.group import Group
from tools.cli.output import json_option, show_parts
from tools.cli.parsed import parsed
from tools.cluster_file import load_cluster
from tools.durations import setting_ms
from tools.errors import PromiseEmpty, RttInvalid
from tools.grid import Grid
from tools.outlook import settings_document
from tools.rtt import parse_distances, parse_ms
from tools.verdict import Assessment

_COUNT = re.compile(r"0*[1-9][0-9]{0,3}\Z")


def _voters(text: str) -> Membership:
    """Voters by region: `eu:2,us:1` are eu-1, eu-2 and us-1. Raises `click.BadParameter`."""
    counts: dict[Region, int] = {}
    for item in text.split(","):
        region, _, count = item.strip().partition(":")
        if not DNS_LABEL.match(region) or not _COUNT.match(count):
            raise click.BadParameter(f"{item!r} is no region with a number of voters, as in eu:2")
        if region in counts:
            raise click.BadParameter(f"the region {region} is named twice")
        counts[Region(region)] = int(count)
    if sum(counts.values()) > MEMBERS_MAX:
        raise click.BadParameter(f"{sum(counts.values())} voters, at most {MEMBERS_MAX}")
    return Membership(
        tuple(
            Member(NodeId(f"{region}-{number}"), region)
            for region, count in counts.items()
            for number in range(1, count + 1)
        )
    )


def _timeout(kind: Any) -> Callable[[str], int]:
    """The type of an option for a setting of type `kind`."""
    return parsed(partial(setting_ms, kind=kind))


@click.group("policy", cls=Group)
def command() -> None:
    """Show, change and check the cluster's commit policy."""


@command.command("show")
@uri_option
@json_option
def show_policy(uri: str, as_json: bool) -> None:
    """Show the policy in force, its floor and its timeouts."""
    view = settings(uri)
    lines = [
        ("policy", view.policy),
        (
            "floor",
            view.floor or f"{view.policy} (the policy is its own floor: nothing is confirmed with less)",
        ),
        ("policy timeout", f"{view.policy_timeout_ms} ms"),
        ("replica timeout", f"{view.replica_timeout_ms} ms"),
        ("since", f"LSN {view.lsn}"),
    ]
    if view.pending:
        lines.append(("on its way", view.pending))
    show_parts(settings_document(view), [Grid("Policy", ("what", "value"), lines)], as_json=as_json)


@command.command("set")
@click.argument("policy", required=False)
@click.option("--floor", metavar="POLICY", help="The commit rule; 'none': as the policy.")
@click.option(
    "--timeout", "policy_timeout", type=_timeout(Millis), metavar="10s", help="How long a write waits."
)
@click.option(
    "--replica-timeout",
    type=_timeout(ReplicaMillis),
    metavar="5s",
    help="How long a silent node counts as in reach.",
)
@change_options
def set_policy(
    policy: str | None,
    floor: str | None,
    policy_timeout: int | None,
    replica_timeout: int | None,
    how: How,
) -> None:
    """Change the cluster's policy, its floor or a timeout; what is not named stays as it is.

    No write is confirmed with less than the floor. Without one of its own the cluster's policy is the floor.
    """
    if (policy, floor, policy_timeout, replica_timeout) == (None, None, None, None):
        raise click.UsageError("nothing is to be changed; name a policy, a floor or a timeout")
    wanted = SetPolicy(
        policy=policy,
        floor="" if floor == "none" else floor,
        policy_timeout_ms=policy_timeout,
        replica_timeout_ms=replica_timeout,
    )
    change(wanted, how)


@command.command()
@click.argument("policy", type=parsed(CommitPolicy.parse))
@click.option(
    "--floor",
    type=parsed(CommitPolicy.parse),
    metavar="POLICY",
    help="The commit rule.  [default: the file's, else POLICY]",
)
@click.option(
    "--config",
    "file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="A node.yaml, or a file with a cluster: section and, if you like, rtt: {eu-us: 80ms}.",
)
@click.option("--nodes", type=_voters, metavar="eu:2,us:2", help="Voters by region, instead of a file.")
@click.option("--primary", metavar="NODE", help="Who leads.  [default: each voter in turn]")
@click.option(
    "--rtt",
    "rtts",
    multiple=True,
    metavar="eu-us=80ms",
    help="The round trip between two regions, or within one (eu-eu=1ms); repeatable.",
)
@click.option(
    "--fsync", "fsync_ms", type=parsed(parse_ms), default="0ms", metavar="2ms", help="What a disk takes."
)
@json_option
def check(
    policy: CommitPolicy,
    floor: CommitPolicy | None,
    file: str | None,
    nodes: Membership | None,
    primary: str | None,
    rtts: tuple[str, ...],
    fsync_ms: float,
    as_json: bool,
) -> None:
    """Prove what POLICY promises: which losses it survives, and how long a commit takes.

    Nothing is asked of any node. Exit code 4 for a policy that can never be met, that can be met without the
    floor, or whose promise is empty: a confirmed write may be lost with one node.
    """
    membership, config, distances = _cluster(file, nodes)
    leader = None if primary is None else _voter(primary, membership)
    distances = _with(distances, rtts, membership)
    default = default_policy(membership) if config is None else config.default_policy
    policy = policy.resolved(default)
    rule = (floor or (None if config is None else config.floor) or policy).resolved(default)
    for each in (policy, rule):
        require_satisfiable(each, membership)
    _require_at_least(policy, rule, membership)
    found = verdict.assess(policy, rule, membership, leader, distances, fsync_ms)
    _print(found, as_json=as_json)
    if found.policy.verdict.empty:
        alone = len(membership.voters) == 1
        hint = "configure more voters" if alone else f"ask for {policy & CommitPolicy((AckN(1),))}"
        raise PromiseEmpty(found.policy.verdict.empty, hint=hint)


def _cluster(
    file: str | None, nodes: Membership | None
) -> tuple[Membership, ClusterConfig | None, Distances]:
    if (file is None) == (nodes is None):
        raise click.UsageError("say which cluster: either --config FILE or --nodes eu:2,us:2,ap:1")
    if file is None:
        assert nodes is not None
        return nodes, None, Distances()
    config, distances = load_cluster(file)
    return config.membership, config, distances


def _voter(name: str, membership: Membership) -> NodeId:
    voters = [member.id for member in membership.voters]
    if name in voters:
        return NodeId(name)
    hint = guess(name, voters, f"voters are {', '.join(voters)}")
    raise click.BadParameter(f"{name} is no voter; {hint}", param_hint="'--primary'")


def _with(distances: Distances, rtts: Sequence[str], membership: Membership) -> Distances:
    """`distances` with those of the command line in place of what the file says of the same regions."""
    regions = {member.region for member in membership.members if member.region}
    pairs = ((names, text) for names, _, text in (item.partition("=") for item in rtts))
    try:
        given = parse_distances(pairs, regions)
    except RttInvalid as error:
        raise click.BadParameter(str(error), param_hint="'--rtt'") from error
    return Distances({**distances.between, **given.between}, distances.within_ms)


def _require_at_least(policy: CommitPolicy, floor: CommitPolicy, membership: Membership) -> None:
    """Raise `PolicyInvalid` when `policy` can be met without `floor`, by whichever voter (R6)."""
    for voter in membership.voters:
        if not at_least(policy, floor, membership, voter.id):
            message = f"{policy} can be met without the floor {floor} while {voter.id} leads"
            if len(membership.voters) > ENUMERATED_VOTERS_MAX:
                message = (
                    f"nothing in {policy} says that it meets the floor {floor}; "
                    f"sets of copies are compared for at most {ENUMERATED_VOTERS_MAX} voters"
                )
            raise PolicyInvalid(message, hint=f"check {policy & floor}, or another --floor")


def _print(found: Assessment, *, as_json: bool) -> None:
    show_parts(verdict.document(found), [*verdict.grids(found), verdict.LEGEND], as_json=as_json)
