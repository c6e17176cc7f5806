"""The doctor's judgement: from gathered facts to findings, the worst first, asking nobody."""

from __future__ import annotations

from tools.doctor import health, local, wires
from tools.doctor.facts import Facts
from tools.doctor.finding import Check, Finding, Level, sort

_OF_STARTS = frozenset((Check.PAIRS, Check.LEADER, Check.QUORUM, Check.NODES))
"""What a node has to do with that has just started, until it and the others have heard each other."""


def judge(facts: Facts) -> list[Finding]:
    """Everything that is found, what is in order too."""
    found = [*local.judge(facts), *wires.judge(facts), *health.judge(facts)]
    if facts.asked and facts.view is None and not any(each.waits for each in facts.asked):
        mend = "the nodes' own hosts tell more: redwire-node check --config node.yaml"
        found.append(
            Finding(Check.NODES, Level.ERROR, "cluster", "no node answers", "nothing is known of it", mend)
        )
    return sort(found)


def may_pass(findings: list[Finding]) -> str:
    """What may only be wrong because a node has just started, and is right a moment later; "" if nothing is.

    Who has just started answers: where somebody does not, it is that which is wrong, except for pairs, of
    which both do.
    """
    errors = {each.check for each in findings if each.level is Level.ERROR}
    if Check.PAIRS in errors:
        return "nodes that run do not hear each other"
    return "a node may have just started" if Check.PORTS not in errors and errors & _OF_STARTS else ""
