"""What is found between machines: who is reached from here, who reaches whom, clocks, versions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from statistics import median_low

from redwire.status import Status
from tools import figures
from tools.authority import BACKDATED
from tools.dev.place import typed
from tools.doctor.facts import Asked, Facts, Lack
from tools.doctor.finding import Check, Finding, Level, or_fine

AHEAD_MS_MAX = 1_000.0
"""Machines that keep time by NTP lie within a hundredth of it."""
HERE = "this machine"
WAIT_S = 60
"""What a new node needs for a snapshot of some size."""

_FOREIGN = (
    "compare its address with redwire members list; if it is the member, stop it, put its data_dir aside, "
    "and start it with an empty one"
)


def judge(facts: Facts) -> Iterator[Finding]:
    """Everything about the ways to the nodes and between them."""
    if not facts.asked:
        return
    yield from _ports(facts)
    yield from _uri(facts)
    yield from map(_twin, facts.twins)
    if facts.view is not None:
        yield from _guests(facts, facts.view)
        yield from _pairs(facts)
        yield from _clocks(facts)
        yield from _versions(facts)


def _ports(facts: Facts) -> Iterator[Finding]:
    view = facts.view
    for each in facts.asked:
        if each.waits:
            yield _waits(each, facts)
        elif each.silent and not each.member and view is not None and not view.vantage.hides_others:
            if facts.dev is not None:
                continue  # the end of a link, which is nobody's address
            what = f"it names {each.addr}, which is no member's address, and nobody answers there"
            yield Finding(Check.PORTS, Level.WARNING, "the URI", what, each.error, f"write {_seeds(view)}")
        elif each.status is None and each.lack in (Lack.REFUSAL, Lack.DATE):
            mend = (
                each.hint
                or "check user and password, or token, in the URI; an administrator: redwire user list"
            )
            what = f"the node at {each.addr} is there and does not let this URI's user in"
            yield Finding(Check.PORTS, Level.ERROR, each.name, what, each.error, mend)
        elif each.status is None and each.lack is Lack.FOREIGN:
            what = f"the node at {each.addr} is another cluster's: {each.error}"
            yield Finding(Check.PORTS, Level.ERROR, each.name, what, "no other node lets it in", _FOREIGN)
        elif each.status is None and each.lack is Lack.PAPER and each.member and view is not None:
            what = f"what is at {each.addr} shows another certificate than {each.member} should"
            yield Finding(Check.PORTS, Level.ERROR, each.name, what, each.error, _anew(each))
        elif each.status is None:
            mend = (
                facts.revival(each.member)
                or each.hint
                or "on its host: systemctl status redwire-node, and start it: systemctl start redwire-node "
                f"(without the unit: redwire-node --config node.yaml); from here: {knock(each.addr)}"
            )
            what = f"no answer at {each.addr} from here"
            if each.lack is Lack.PAPER:
                what = f"what is at {each.addr} shows a certificate that is not accepted here"
            elif _runs(each, facts):
                what += f", though {each.member} follows the primary"
                mend = (
                    f"on its host compare node.listen with {each.addr}, where members are to reach it; "
                    f"if it has moved: redwire members move {each.member} HOST:PORT"
                )
            yield Finding(Check.PORTS, Level.ERROR, each.name, what, each.error, mend)
    answered = [each for each in facts.asked if each.status is not None]
    if answered:
        what = f"from here these answer: {', '.join(each.name for each in answered)}"
        yield Finding(Check.PORTS, Level.OK, "cluster", what)


def _runs(each: Asked, facts: Facts) -> bool:
    """Whether the primary hears the node, and nobody listens at its address."""
    if facts.view is None or facts.dev is not None or "refused" not in each.error:
        return False
    return any(node.id == each.member and node.connected for node in facts.view.nodes)


def _twin(each: Asked) -> Finding:
    what = f"another process answers at {each.addr} by the name {each.name}"
    why = "no other node lets it in, and whoever reads from it reads what is old"
    return Finding(Check.NODES, Level.ERROR, each.name, what, why, f"stop the one at {each.addr}")


def _guests(facts: Facts, view: Status) -> Iterator[Finding]:
    """Who answers and is not, or no more, of the cluster."""
    if view.vantage.hides_others:
        return
    for each in facts.asked:
        if each.status is not None and view.node(each.member) is None:
            what = f"it answers at {each.addr}, and is no member of the cluster"
            why = "it was removed, or not added yet: it follows nobody, and what is read from it is old"
            mend = "stop it, and take its address out of the URIs; or redwire members add"
            yield Finding(Check.NODES, Level.WARNING, each.name, what, why, mend)


def _anew(each: Asked) -> str:
    """Others are accepted by the same authority, and under the addresses that members have."""
    host = each.addr.rpartition(":")[0].strip("[]")
    issue = f"redwire certs issue node {each.member} --host {host} --out renewed"
    return (
        f"{issue}, by the authority of the others; on its host see tls in node.yaml, then redwire-node reload"
    )


def _waits(each: Asked, facts: Facts) -> Finding:
    """It is there; what it lacks is others."""
    what = f"it answers at {each.addr}, and waits"
    mend = f"on its host: journalctl -u redwire-node; from here: redwire doctor --wait {WAIT_S}"
    if each.missing and facts.dev is not None:
        mend = "; ".join(typed(facts.dev, "start", name) for name in each.missing)
    elif each.missing:
        whom = ", ".join(each.missing)
        mend = f"start {whom}; if they run, see on {each.name} whether it reaches them: its log, firewall"
    return Finding(Check.NODES, Level.ERROR, each.name, what, each.error, mend)


def _uri(facts: Facts) -> Iterator[Finding]:
    """A URI of one host finds nobody while that one is away."""
    view = facts.view
    if view is None or len(facts.hosts) > 1 or len(view.nodes) < 2:
        return
    yield Finding(
        *(Check.PORTS, Level.WARNING, "the URI", f"it names one host, {facts.hosts[0]}"),
        *("while that one is away nobody is found", f"write {_seeds(view)}"),
    )


def _seeds(view: Status) -> str:
    return f"reds://{','.join(node.addr for node in view.nodes if node.addr)}/?…"


def _pairs(facts: Facts) -> Iterator[Finding]:
    """By the round trips that every node measured itself; one whom nobody hears stands among the ports."""
    view = facts.view
    assert view is not None
    names = [node.id for node in view.nodes]
    if len(names) < 2 or view.vantage.hides_others:
        return
    rows = {name: row for name in names if (row := facts.node(name)) is not None}
    out = {each.member for each in facts.asked if each.status is None}
    gone = out - {name for other, row in rows.items() if other not in out for name in row.rtts_us}
    heard = {name: frozenset(row.rtts_us) for name, row in rows.items() if name not in gone}
    found = [
        _broken(here, there, view, both=here not in heard[there])
        for here, there in permutations(heard, 2)
        if there not in heard[here] and (here in heard[there] or names.index(here) < names.index(there))
    ]
    silent = ", ".join(name for name in names if name not in heard and name not in out)
    if silent:
        what = f"whom {silent} can reach is not known"
        found.append(Finding(Check.PAIRS, Level.WARNING, "cluster", what, "not heard", "redwire status"))
    slowest = max((us for row in rows.values() for us in row.rtts_us.values()), default=0)
    if len(heard) > 1:
        fine = f"{', '.join(heard)} reach each other, within {figures.micros(slowest)}"
        found = or_fine(found, Check.PAIRS, "cluster", fine)
    yield from found


def _broken(here: str, there: str, view: Status, *, both: bool) -> Finding:
    other = view.node(there)
    what = f"{here} and {there} do not reach each other" if both else f"{here} does not reach {there}"
    why = "writes that need both wait or are refused, though each may look well from here"
    mend = (
        f"on {here}: {knock('' if other is None else other.addr)}; "
        "then see what lies between: firewall, route, MTU, node.dial"
    )
    return Finding(Check.PAIRS, Level.ERROR, f"{here} to {there}", what, why, mend)


def knock(addr: str) -> str:
    """What to type to see whether somebody listens at `addr`."""
    host, _, port = addr.rpartition(":")
    return f"nc -vz {host.strip('[]')} {port}"


def _clocks(facts: Facts) -> Iterator[Finding]:
    clocks = [Asked(HERE, "")] + [each for each in facts.asked if each.status is not None]
    middle = median_low([each.ahead_ms for each in clocks])
    true = next(each for each in clocks if each.ahead_ms == middle)
    found = [finding for each in clocks if (finding := _clock(each, true)) is not None]
    if all(paper.ends_at_ms > facts.now_ms for paper in facts.papers):
        found += [_untimely(each) for each in facts.asked if each.lack is Lack.DATE]
    widest = max(each.ahead_ms for each in clocks) - min(each.ahead_ms for each in clocks)
    unsure = max(each.unsure_ms for each in clocks)
    fine = f"within {figures.duration(widest)} of each other, give or take {figures.duration(unsure)}"
    yield from or_fine(found, Check.CLOCKS, "cluster", fine)


def _clock(each: Asked, true: Asked) -> Finding | None:
    off = each.ahead_ms - true.ahead_ms
    if abs(off) - each.unsure_ms - true.unsure_ms <= AHEAD_MS_MAX:
        return None
    sense = "ahead of" if off > 0 else "behind"
    far = abs(off) > BACKDATED.total_seconds() * 1_000
    why = "certificates begin and end, and log ages, by each node's own clock"
    if far:
        why = "a certificate that was issued now may be refused; " + why
    level = Level.ERROR if far else Level.WARNING
    what = f"its clock is {figures.duration(abs(off))} {sense} that of {true.name}"
    where = "on it" if each.member == HERE else f"on {each.name}"
    mend = f"{where}: timedatectl, then mend what keeps its time (chronyc tracking)"
    return Finding(Check.CLOCKS, level, each.name, what, why, mend)


def _untimely(each: Asked) -> Finding:
    """It told nobody its clock; what it refuses another node has taken."""
    what = "its clock is likely wrong by days: it takes a certificate for untimely that other nodes accept"
    why = "the lines that it has go on; once they break it takes no member's certificate either"
    mend = f"on {each.name}: timedatectl, then mend what keeps its time (chronyc tracking)"
    return Finding(Check.CLOCKS, Level.ERROR, each.name, what, why, mend)


def _versions(facts: Facts) -> Iterator[Finding]:
    view = facts.view
    assert view is not None
    rows = [facts.node(node.id) or node for node in view.nodes]
    versions: dict[str, list[str]] = {}
    for row in rows:
        if row.version:
            versions.setdefault(row.version, []).append(row.id)
    found = []
    if len(versions) > 1:
        what = "; ".join(f"{', '.join(names)} run {version}" for version, names in sorted(versions.items()))
        why = "an upgrade is under way, or was left half done"
        mend = "finish it, one node at a time, the primary last: docs/OPERATIONS.md, Upgrade"
        found.append(Finding(Check.VERSIONS, Level.WARNING, "cluster", what, why, mend))
    elif versions and facts.version not in versions:
        what = f"this redwire is {facts.version}, the nodes run {next(iter(versions))}"
        mend = "install the nodes' version here as well"
        found.append(Finding(Check.VERSIONS, Level.WARNING, HERE, what, "", mend))
    yield from or_fine(found, Check.VERSIONS, "cluster", f"{', '.join(versions) or 'unknown'} everywhere")
