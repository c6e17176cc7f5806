"""The doctor's judgement: from gathered facts to findings, the worst first, asking nobody."""

from __future__ import annotations

from tools.doctor import health, local, wires
from tools.doctor.facts import Facts
from tools.doctor.finding import Check, Finding, Level, sort


def judge(facts: Facts) -> list[Finding]:
    """Everything that is found, what is in order too."""
    found = [*local.judge(facts), *wires.judge(facts), *health.judge(facts)]
    if facts.asked and facts.view is None and not any(each.waits for each in facts.asked):
        mend = "the nodes' own hosts tell more: redwire-node check --config node.yaml"
        found.append(
            Finding(Check.NODES, Level.ERROR, "cluster", "no node answers", "nothing is known of it", mend)
        )
    return sort(found)
