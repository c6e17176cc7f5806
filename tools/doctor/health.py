"""What is found in the status document: the monitor's problems and troubles, disks, single points of failure,
each with what to do against it.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.retention import Reason
from cluster.volume import INODES_MIN
from redwire.errors import PolicyInvalid
from redwire.node_role import NodeRole
from redwire.status import NodeStatus, Status
from regions.commit_policy import CommitPolicy
from regions.errors import MembershipInvalid, MemberUnknown
from regions.prover import Loss, prove
from tools import figures
from tools.condition import problems, trouble
from tools.condition.foresight import Rules
from tools.condition.tone import Tone
from tools.doctor.facts import Facts, Lack
from tools.doctor.finding import Check, Finding, Level, or_fine

FSYNC_P99_US_MAX = 100_000
"""A disk that takes longer is seen in every commit; an SSD stays far below it."""
STUCK_LAG_MS = 60_000
"""Who is that far behind and comes no nearer will not catch up by itself."""
AGAIN_S = 10
"""Whoever leads and says nothing is given up by its followers after half of that."""
_OUT_OF_USE = frozenset(("full", "damaged", "failed"))
"""States of a disk that explain what else is wrong with its node."""
_SPACE = "free or add space on the volume of its data_dir"
_INODES = "see df -i on its host: remove files on the volume of its data_dir, or make one with more inodes"
_TAKES = "{} takes a snapshot, and counts again when it has caught up: redwire events"
_STRANGE = {
    Lack.PAPER: "see ports: what is there shows other certificates",
    Lack.FOREIGN: "see ports: what is there is another cluster's",
}
_LEVELS = {Tone.BAD: Level.ERROR, Tone.WARN: Level.WARNING}

OF_PROBLEMS = {
    problems.Kind.PRIMARY: (
        Check.LEADER,
        "nobody takes writes",
        "start it again; if it is gone for good: docs/OPERATIONS.md, Lose the primary",
    ),
    problems.Kind.QUORUM: (
        Check.QUORUM,
        "writes by the default policy are refused",
        "start who is missing; what is gone for good: redwire policy set POLICY --lost REGION --dry-run",
    ),
    problems.Kind.HIDDEN: (
        Check.NODES,
        "half of this cannot be said",
        "ask with a user that may see every node: redwire user role NAME ROLE --topology",
    ),
    problems.Kind.VIEW: (
        Check.NODES,
        "the primary does not get through to who answers",
        "redwire status --node HOST:PORT",
    ),
    problems.Kind.REGION: (
        Check.NODES,
        "no copy there counts",
        "start its nodes; if it is gone for good: docs/OPERATIONS.md, Lose a region",
    ),
    problems.Kind.HEALTH: (
        Check.NODES,
        "",
        "on its host: journalctl -u redwire-node, then redwire-node check",
    ),
    problems.Kind.ROLE: (
        Check.NODES,
        "it does not lead, or is not counted, until that is done",
        "redwire lag; for whom it waits stands in its log: journalctl -u redwire-node",
    ),
    problems.Kind.DISK: (
        Check.DISKS,
        "at most what has its space set aside already is still logged there",
        "{room}; a failed disk: docs/OPERATIONS.md, Replace a disk",
    ),
    problems.Kind.DAMAGE: (
        Check.DISKS,
        "its state is not as it was written: no read is answered there",
        "docs/OPERATIONS.md, Replace a disk; what is damaged stands in its log: journalctl -u redwire-node",
    ),
    problems.Kind.SLOT: (
        Check.SLOTS,
        "the log that it lacks is gone: it takes a snapshot",
        "let it run; if that recurs, {relief}",
    ),
    problems.Kind.BINDING: (
        Check.SETTINGS,
        "the binding counts, not the file",
        "write the binding into its file, or: redwire regions bind {node} REGION --dry-run",
    ),
    problems.Kind.LAG: (
        Check.NODES,
        "reads there are old, and its slot may be lost",
        "redwire lag; see its disk and its line",
    ),
    problems.Kind.COUNTED: (
        Check.QUORUM,
        "the quorum has to do without it",
        "redwire status; often it mends itself",
    ),
    problems.Kind.CHANGE: (
        Check.SETTINGS,
        "a majority has not written it yet",
        "start who is missing; redwire policy show",
    ),
}
"""By the kind of a problem: which check it belongs to, why it matters, the mend."""
OF_TROUBLES = {
    trouble.Kind.EVICTION: (
        Check.SLOTS,
        "beyond it the follower needs a whole snapshot",
        "start {node} before that, or {relief}",
    ),
    trouble.Kind.LAG: OF_PROBLEMS[problems.Kind.LAG],
    trouble.Kind.DISK: (
        Check.DISKS,
        "beyond it log is given up, and followers that lack it take snapshots; full, it refuses writes",
        _SPACE,
    ),
    trouble.Kind.CERTIFICATE: (
        Check.CERTIFICATES,
        "beyond it no peer and no client connects to it",
        "redwire certs issue node {node} --host HOST --out renewed, then on it redwire-node reload",
    ),
}
_RELIEFS = {
    Reason.BYTES.value: "raise retention.bytes_max in the primary's node.yaml",
    Reason.AGE.value: "raise retention.age_max_s in the primary's node.yaml",
    Reason.DISK.value: "free space on the primary's disk, or lower retention.disk_free_min_bytes there",
    Reason.GONE.value: "raise retention.bytes_max and age_max_s in the primary's node.yaml",
}
"""What keeps log for longer, by the bound that ends it."""
_SOME_RELIEF = "raise what bounds it: retention in the primary's node.yaml"


def judge(facts: Facts) -> Iterator[Finding]:
    """Everything that the nodes themselves say."""
    view = facts.view
    if view is None:
        return
    growing = frozenset(node.id for node in view.nodes if _stuck(node))
    known = [each for each in problems.find(view) if each.kind is not problems.Kind.LAG]
    unled = _unled(known, facts)
    found = [_problem(each, facts, view) for each in known if each not in unled]
    silent = {each.member for each in facts.asked if each.silent}  # others may not have noticed yet
    here = (each.subject for each in unled if each.subject not in silent)
    found += _waiting([name for name in here if facts.node(name) is not None])
    unheard = list(_unheard(facts, view))
    found += unheard
    found += _apart(facts, view)
    ahead = trouble.ahead(view, view.vantage.at_ms, growing)
    found += [_trouble(each, view) for each in ahead if each.tone in _LEVELS and not _told(each)]
    found += _disks(view)
    checks = {finding.check for finding in found}
    checks |= {Check.QUORUM} if unheard else set()  # what it said last is no news of whether it takes writes
    yield from found
    yield from (fine for fine in _fine(view) if fine.check not in checks)
    yield from _single_points(view)


def _unled(known: list[problems.Problem], facts: Facts) -> list[problems.Problem]:
    """Those that only say that nobody leads: of nodes whose health a primary would know. Who answers is well
    but for that, and who was asked and is silent stands among the ports.
    """
    if all(each.kind is not problems.Kind.PRIMARY for each in known):
        return []
    asked = {each.member for each in facts.asked}
    health = (each for each in known if each.kind is problems.Kind.HEALTH and each.tone is Tone.WARN)
    return [each for each in health if each.subject in asked or facts.node(each.subject) is not None]


def _waiting(names: list[str]) -> Iterator[Finding]:
    if names:
        what = (
            f"{', '.join(names)} run and wait for a primary; how far behind they are is not known until then"
        )
        yield Finding(Check.NODES, Level.WARNING, "cluster", what, "", "nothing on them: see leader")


def _unheard(facts: Facts, view: Status) -> Iterator[Finding]:
    """Who leads, as others say, and gives no answer here: it may have stopped a moment ago, and they have not
    noticed yet, or only the way from here is gone.
    """
    leader = view.primary.node
    silent = any(each.member == leader and each.silent for each in facts.asked)
    if view.primary.state != "leading" or not silent:
        return
    others = [each for each in facts.views if each.vantage.node != leader]
    heard = [each.primary.node == leader and each.primary.state == "leading" for each in others]
    told = [
        f"; {verb} {', '.join(names)}"
        for verb, want in (("still followed by", True), ("given up by", False))
        if (names := [each.vantage.node for each, hears in zip(others, heard, strict=True) if hears is want])
    ]
    what = f"it leads, and does not answer this host{''.join(told)}"
    why = "writes from here wait; if it has stopped, the others notice within seconds, and then nobody leads"
    mend = facts.revival(leader) or f"redwire doctor again in {AGAIN_S} s: if it is still so, see ports"
    yield Finding(Check.LEADER, Level.ERROR, leader, what, why, mend)


def _apart(facts: Facts, view: Status) -> Iterator[Finding]:
    """Who follows nobody because it has accepted a newer reign than that of the primary, which then cannot
    begin a newer one: their histories have parted.
    """
    term = view.term
    if term is None or view.primary.state != "leading":
        return
    for other in facts.views:
        if other.primary.state != "leading" and (other.term or 0) > term:
            node = other.vantage.node
            what = f"it has accepted term {other.term}, {view.primary.node} leads term {term}"
            why = "it follows no older one; the primary may lack what it knows committed, as from an old copy"
            mend = f"if it stays so: the log of {view.primary.node}, or redwire events, says more"
            yield Finding(Check.LEADER, Level.ERROR, node, what, why, mend)


def _stuck(node: NodeStatus) -> bool:
    lag = node.lag
    return lag.state == "behind" and lag.catch_up_ms is None and (lag.ms or 0) > STUCK_LAG_MS


def _told(each: trouble.Trouble) -> bool:
    """An eviction that has come stands among the problems."""
    return each.kind is trouble.Kind.EVICTION and not each.in_ms


def _problem(each: problems.Problem, facts: Facts, view: Status) -> Finding:
    check, why, mend = OF_PROBLEMS[each.kind]
    said = _strange(facts)
    if each.kind is problems.Kind.REGION:
        here = {other.vantage.node for other in facts.views}  # of one that has just stopped others still tell
        nodes = [node for node in view.nodes if node.region == each.subject]
        taking = [node.id for node in nodes if node.role == NodeRole.REBUILDING]
        answer = [node.id for node in nodes if node.id in here and node.id not in taking]
        if taking and not answer:
            mend = _TAKES.format(", ".join(taking))
        elif answer:
            mend = f"they run ({', '.join(answer)} answer from here): mend what lies between, see pairs"
        elif strange := next((said[node.id] for node in nodes if node.id in said), ""):
            mend = strange
        if any(node.region == each.subject and node.disk.state in _OUT_OF_USE for node in view.nodes):
            mend = "see disks"
    if each.kind is problems.Kind.QUORUM and (leads := view.node(view.primary.node)) is not None:
        mend = "see disks" if leads.disk.state in _OUT_OF_USE else mend  # nobody is missing
    if each.kind is problems.Kind.HEALTH:
        node = view.node(each.subject)
        mend = said.get(each.subject) or facts.revival(each.subject) or mend
        if node is not None and node.role == NodeRole.REBUILDING:
            mend = _TAKES.format(each.subject)
        elif node is not None and node.disk.state == "damaged":
            mend = "see disks"  # it runs
    leader = view.primary.node if each.kind is problems.Kind.PRIMARY else ""
    where = each.subject or leader or "cluster"
    return Finding(check, _LEVELS[each.tone], where, each.text, why, _filled(mend, view, each.subject))


def _strange(facts: Facts) -> dict[str, str]:
    """In whose place something else is, and where more is said of it."""
    return {
        each.member: _STRANGE[each.lack]
        for each in facts.asked
        if each.status is None and each.lack in _STRANGE
    }


def _trouble(each: trouble.Trouble, view: Status) -> Finding:
    check, why, mend = OF_TROUBLES[each.kind]
    mend = _filled(mend, view, each.node)
    if each.in_ms:
        what = f"{each.text}, in {figures.duration(each.in_ms)} if nothing changes"
        return Finding(check, Level.WARNING, each.node, what, why, mend)
    return Finding(check, _LEVELS[each.tone], each.node, each.text, why, mend)


def _filled(mend: str, view: Status, name: str) -> str:
    node = view.node(name)
    bound = "" if node is None else node.slot.bound
    room = _INODES if node is not None and problems.inodeless(node) else _SPACE
    return mend.format(node=name, relief=_RELIEFS.get(bound, _SOME_RELIEF), room=room)


def _disks(view: Status) -> Iterator[Finding]:
    for node in view.nodes:
        slow = node.disk.fsync_p99_us
        there = [each for each in trouble.sharing(view, node) if _near_floor(each)]
        if node in there[:1]:
            free, floor = node.disk.free_bytes, max(each.disk.floor_bytes or 0 for each in there)
            what = f"{figures.size(free)} are free, the floor is {figures.size(floor)}"
            why = "below twice the floor no log is kept for readers, below it for nobody"
            where = ", ".join(each.id for each in there)
            yield Finding(Check.DISKS, Level.WARNING, where, what, why, _SPACE)
        there = [each for each in trouble.sharing(view, node) if _short_of_inodes(each)]
        if node in there[:1]:
            what = f"{node.disk.free_inodes} inodes are free, whatever is free of bytes"
            why = "with none left no file can be made, and writes are refused"
            where = ", ".join(each.id for each in there)
            yield Finding(Check.DISKS, Level.WARNING, where, what, why, _INODES)
        if slow is not None and slow > FSYNC_P99_US_MAX:
            what = f"one write in a hundred takes its disk {figures.micros(slow)} or more"
            why = "every commit that it completes waits for that"
            mend = "on its host: iostat -x 1; give data_dir a volume of its own"
            yield Finding(Check.DISKS, Level.WARNING, node.id, what, why, mend)


def _near_floor(node: NodeStatus) -> bool:
    """Also where nobody foresees when it is reached; where somebody does, that is told instead."""
    free, floor = node.disk.free_bytes, node.disk.floor_bytes
    return free is not None and floor is not None and free <= 2 * floor and node.disk.floor_ms is None


def _short_of_inodes(node: NodeStatus) -> bool:
    """Before it is full: that is told instead."""
    free = node.disk.free_inodes
    return free is not None and free < INODES_MIN and node.disk.state not in _OUT_OF_USE


def _fine(view: Status) -> Iterator[Finding]:
    """What to say of a check that found nothing; what is not known is not called well."""
    yield Finding(Check.LEADER, Level.OK, view.primary.node, "it leads")
    if view.quorum.met:
        yield Finding(Check.QUORUM, Level.OK, "cluster", f"writes by {view.settings.policy} are accepted")
    yield Finding(Check.NODES, Level.OK, "cluster", f"all {len(view.nodes)} are healthy")
    kept = [node.id for node in view.nodes if node.slot.state == "ok"]
    if kept:
        yield Finding(Check.SLOTS, Level.OK, "cluster", f"log is kept for {', '.join(kept)}")
    disks = [node for node in view.nodes if node.disk.free_bytes is not None]
    if disks:
        slowest = max(row.disk.fsync_p99_us or 0 for row in disks)
        told = f"above the floor on {', '.join(node.id for node in disks)}"
        told += f"; 99 of 100 writes take {figures.micros(slowest)} or less" if slowest else ""
        early = ", ".join(node.id for node in disks if node.disk.floor_over_ms is None)
        told += f"; too early to foretell when these fill: {early}" if early else ""
        yield Finding(Check.DISKS, Level.OK, "cluster", told)
    ends = [(row.certificate_ends_at_ms, row.id) for row in view.nodes if row.certificate_ends_at_ms]
    if ends:
        first, whose = min(ends)
        left = figures.duration(first - view.vantage.at_ms)
        told = f"of {len(ends)} nodes' that of {whose} ends first, in {left}"
        yield Finding(Check.CERTIFICATES, Level.OK, "cluster", told)


def _single_points(view: Status) -> Iterator[Finding]:
    """What the prover says of the members as they are configured, whoever of them is up."""
    if view.vantage.hides_others:
        return
    try:
        rules = Rules.of(view)
        points = prove(rules.rule, rules.membership, None, rules.policy).single_points
    except (PolicyInvalid, MembershipInvalid, MemberUnknown) as error:
        why = "the policy in force cannot be met by the members"
        mend = "redwire policy show; redwire members list"
        yield Finding(Check.SINGLE_POINTS, Level.ERROR, "cluster", error.message, why, mend)
        return
    shell = f"redwire policy check '{rules.policy}' --config node.yaml"
    found = [
        _point("confirmed writes are lost with", points.data, "they may be on one disk alone", shell),
        _point(
            "writes stop without",
            points.writes,
            f"{rules.policy} cannot be met then",
            _relief(rules, view.settings.floor, shell),
        ),
        _point(
            "no successor is safe without", points.successor, "nobody else may hold a confirmed write", shell
        ),
    ]
    fine = f"{rules.policy} outlives the loss of any one node and any one region"
    yield from or_fine([each for each in found if each is not None], Check.SINGLE_POINTS, "cluster", fine)


def _point(what: str, losses: tuple[Loss, ...], why: str, mend: str) -> Finding | None:
    if not losses:
        return None
    names = " or ".join(map(str, losses))
    return Finding(Check.SINGLE_POINTS, Level.WARNING, "cluster", f"{what} {names}", why, mend)


def _relief(rules: Rules, floor: str, shell: str) -> str:
    """What would go on writing through any one loss: `majority` if that does, else more voters. A `floor`
    that is another one would stand in its way.
    """
    majority = CommitPolicy.parse("majority")
    if not prove(majority, rules.membership).single_points.writes:
        lower = "" if floor in ("", str(majority)) else " --floor none"
        return (
            f"if that is too dear: redwire policy set majority{lower} --dry-run; "
            "nothing is confirmed with less than majority then"
        )
    return f"add voters: redwire members add NODE REGION HOST:PORT; {shell}"
