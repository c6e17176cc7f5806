"""What an operator asks for, checked against the document, and the plan that is shown before it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from cluster.cluster_config import Millis
from redwire.errors import RedwireError, RequestInvalid
from redwire.handshake import DNS_LABEL
from redwire.message.settings import BindRegion, SetPolicy, SettingsChange, SettingsChanged, SettingsView
from redwire.spelling import guess
from redwire.status import Status
from regions.commit_policy import CommitPolicy, Regions
from tools.durations import setting_ms
from tools.figures import duration
from tools.outlook import outlook


class Request(msgspec.Struct, frozen=True):
    """A change that can be asked for. `warnings` are doubts about it; `lost` is what is given up for good.

    `based_on` is the LSN of the settings that it was made from, 0 where it fits any.
    """

    change: SettingsChange
    name: str
    lost: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    based_on: int = 0


class Field(msgspec.Struct, frozen=True):
    """One line of a form: `key` in the answer, what it is called, what stands there at first."""

    key: str
    label: str
    value: str = ""
    choices: tuple[str, ...] = ()


class Form(msgspec.Struct, frozen=True):
    """What is asked. `check` makes a request of the answers, or raises `RedwireError` that says why not."""

    title: str
    fields: tuple[Field, ...]
    check: Callable[[Mapping[str, str]], Request]


class Plan(msgspec.Struct, frozen=True):
    """What a change leads to. `rows` are (what, before, after) of all that differs.

    `typed` is what must be typed back before it is done, "" where a key is enough.
    """

    text: str
    rows: tuple[tuple[str, str, str], ...]
    won: tuple[str, ...]
    lost: tuple[str, ...]
    typed: str
    based_on: int


_LOST = Field("lost", "gone for good (nodes, regions; typed back)")


def bind_form(status: Status, node: str) -> Form:
    """Ask which node should count for which region; `node` stands there at first."""
    ids, names = _nodes(status), _regions(status)
    fields = (Field("node", "node", node, ids), Field("region", "region", "", names), _LOST)
    return Form("Bind a node to a region", fields, lambda given: _bind(status, given))


def unbind_form(status: Status, node: str) -> Form:
    """Ask which node should count for no region any more."""
    fields = (Field("node", "node", node, _nodes(status)), _LOST)
    return Form("Unbind a node from its region", fields, lambda given: _unbind(status, given))


def policy_form(status: Status, settings: SettingsView) -> Form:
    """Ask for the default policy, the floor and the policy's timeout; what stands there is set.

    A document names the commit rule, whether a floor is set or not: only `settings` tell the two apart.
    """
    fields = (
        Field("policy", "policy", settings.policy),
        Field("floor", "floor (empty: the policy is its own)", settings.floor),
        Field("timeout", "timeout", f"{settings.policy_timeout_ms} ms"),
        _LOST,
    )
    return Form("Change the commit policy", fields, lambda given: _policy(status, settings, given))


def _bind(status: Status, given: Mapping[str, str]) -> Request:
    node, region = _node(status, given["node"]), given["region"].strip()
    if not DNS_LABEL.match(region):
        hint = "press u to unbind a node" if not region else "a-z, 0-9 and -"
        raise RequestInvalid(f"{region!r} is no name of a region", hint=hint)
    known = _regions(status)
    warnings: tuple[str, ...] = ()
    if region not in known:
        said, hint = f"{region} is a new region, with no other node in it", guess(region, known)
        warnings = (f"{said}; {hint}" if hint else said,)
    return Request(BindRegion(node, region), node, _gone(status, given), warnings)


def _unbind(status: Status, given: Mapping[str, str]) -> Request:
    node = _node(status, given["node"])
    return Request(BindRegion(node, ""), node, _gone(status, given))


def _policy(status: Status, settings: SettingsView, given: Mapping[str, str]) -> Request:
    """What differs from `settings`, and is refused on any others: so what was read is what follows."""
    policy, floor, timeout = (given[key].strip() for key in ("policy", "floor", "timeout"))
    for text in filter(None, (policy, floor)):
        _check_policy(status, text)
    if not policy:
        raise RequestInvalid("the policy is empty", hint="such as majority or regions(eu,us)")
    timeout_ms = setting_ms(timeout, Millis)
    change = SetPolicy(
        policy=policy if policy != settings.policy else None,
        floor=floor if floor != settings.floor else None,
        policy_timeout_ms=timeout_ms if timeout_ms != settings.policy_timeout_ms else None,
    )
    if change == SetPolicy():
        raise RequestInvalid("this is what is in force", hint="change something, or press escape")
    return Request(change, policy, _gone(status, given), based_on=settings.lsn)


def _check_policy(status: Status, text: str) -> None:
    known = _regions(status)
    for clause in CommitPolicy.parse(text).clauses:
        for name in clause.names if isinstance(clause, Regions) else ():
            if name not in known:
                raise _stranger("region", name, known)


def _node(status: Status, text: str) -> str:
    node, known = text.strip(), _nodes(status)
    if node not in known:
        raise _stranger("node", node, known)
    return node


def _gone(status: Status, given: Mapping[str, str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(given["lost"].replace(",", " ").split()))
    known = (*_nodes(status), *_regions(status))
    for name in names:
        if name not in known:
            raise _stranger("node or region", name, known)
    return names


def _stranger(what: str, name: str, known: Iterable[str]) -> RequestInvalid:
    known = tuple(known)
    hint = guess(name, known, f"there are {', '.join(known) or 'none'}")
    return RequestInvalid(f"there is no {what} {name[:64]!r}", hint=hint)


def _nodes(status: Status) -> tuple[str, ...]:
    return tuple(node.id for node in status.nodes)


def _regions(status: Status) -> tuple[str, ...]:
    named = [region.name for region in status.regions if region.name]
    return tuple(dict.fromkeys((*named, *(node.region for node in status.nodes if node.region))))


def plan(request: Request, answer: SettingsChanged) -> Plan:
    """The plan that a dry run answered. Dangerous is what gives something up, what there is a doubt about,
    and what the command line asks about as well: `Outlook.risk`.
    """
    before, after = answer.before, answer.after
    won, lost, risk = _consequences(answer)
    doubts = (*request.warnings, *(f"{name} is given up for good" for name in request.lost), *risk)
    typed = " ".join(request.lost) or (request.name if doubts else "")
    return Plan(answer.text, tuple(_differences(before, after)), won, (*doubts, *lost), typed, before.lsn)


def _differences(before: SettingsView, after: SettingsView) -> Iterator[tuple[str, str, str]]:
    for name, was, will in (
        ("policy", before.policy, after.policy),
        ("floor", before.floor or "the policy", after.floor or "the policy"),
        ("policy timeout", duration(before.policy_timeout_ms), duration(after.policy_timeout_ms)),
        ("replica timeout", duration(before.replica_timeout_ms), duration(after.replica_timeout_ms)),
    ):
        if was != will:
            yield name, was, will
    homes = {member.id: member.region or "no region" for member in before.members}
    for member in after.members:
        was, will = homes.get(member.id, "no member"), member.region or "no region"
        if was != will:
            yield f"region of {member.id}", was, will


def _consequences(answer: SettingsChanged) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """What is won, what is lost, losses with the same answers in one text, and what is to be asked about."""
    try:
        found = outlook(answer)
    except RedwireError as error:
        return (), (), (f"what follows cannot be worked out here: {error.message}",)
    risk = (found.risk,) if found.risk else ()
    texts: dict[bool, list[str]] = {True: [], False: []}
    if found.warning and found.warning not in risk:
        texts[False].append(found.warning)
    for each in found.groups:
        what = f"{each.question}: {each.before} -> {each.after}"
        texts[each.won].append(f"{what}, when this is lost: {', '.join(each.losses)}")
    return tuple(texts[True]), tuple(texts[False]), risk
