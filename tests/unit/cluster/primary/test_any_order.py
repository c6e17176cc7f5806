"""Any order of events: everybody is answered once, nobody too early, and nobody is forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from cluster.effects import Commit, EndReign, Proposal, Reject, Release, Unconfirmed
from redwire.batch import follows

OTHERS = ("us-1", "ap-1")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("propose"), st.sampled_from(["majority", "ack_n=2"]), st.integers(1, 8)),
        st.tuples(st.just("sync"), st.just("eu-1"), st.integers(0, 3)),
        st.tuples(
            st.sampled_from(["ack", "ack", "leave", "join"]), st.sampled_from(OTHERS), st.integers(0, 3)
        ),
        st.tuples(st.sampled_from(["turn", "apply", "tick"]), st.just(""), st.integers(0, 4)),
    ),
    max_size=40,
)


@dataclass
class Model:
    """Three disks and what two policies say of them, the plain way: a log of an old term ends at 5."""

    start: int = 6
    disks: dict[str, int] = field(default_factory=lambda: {"eu-1": 5, "us-1": 0, "ap-1": 0})
    most: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OTHERS, 0))
    reached: dict[str, int] = field(default_factory=lambda: {"majority": 3, "ack_n=2": 0})

    def proves(self, node: str, lsn: int) -> None:
        self.disks[node] = lsn
        if node in self.most:
            self.most[node] = max(self.most[node], lsn)
        own = self.disks["eu-1"]
        others = sorted(self.disks[other] * (self.disks[other] == self.most[other]) for other in OTHERS)
        for policy, copies in (("majority", others[-1]), ("ack_n=2", others[0])):
            if min(own, copies) >= self.start:
                self.reached[policy] = max(self.reached[policy], min(own, copies))


@given(steps=STEPS)
def test_in_any_order_everybody_is_answered_once_and_nobody_too_early(steps, lead, of, answers, old_end):
    primary, model = lead(end=old_end, term=2), Model()
    core, sessions = primary.core, {"us-1": 0, "ap-1": 0}
    answered: dict[int, type] = {}
    proposals: dict[int, Proposal] = {}

    def check(effects):
        for effect in effects:
            if isinstance(effect, Release):
                last = effect.flight.batch.last
                assert last <= core.applied <= core.watermark
                for proposal, _ in effect.answers:
                    assert last <= model.reached[proposal.policy.text]
        for kind, number in answers(effects):
            assert number not in answered
            answered[number] = kind
            if kind is Unconfirmed or kind is Reject:
                assert proposals[number].deadline_us <= primary.ms * 1000
        assert core.watermark == model.reached["majority"] <= model.disks["eu-1"]
        assert [effect.watermark for effect in of(Commit, primary.effects)] == sorted(
            {effect.watermark for effect in of(Commit, primary.effects)}
        )

    def sync(less: int) -> None:
        lsn = max(model.disks["eu-1"], core.end.lsn - less)
        model.proves("eu-1", lsn)
        check(primary.durable(lsn))

    def ack(node: str, less: int) -> None:
        if sessions[node]:
            lsn = max(model.disks[node], core.end.lsn - less)
            model.proves(node, lsn)
            check(primary.ack(node, lsn, session=sessions[node]))

    def join(node: str, less: int) -> None:
        """A new session, and what it proves may be less than before."""
        sessions[node] = max(sessions.values()) + 1
        lsn = max(0, min(core.end.lsn, model.most[node] - less))
        model.proves(node, lsn)
        check(primary.join(node, sessions[node], matched=lsn))

    primary.begin(known=3)
    for step, what, number in steps:
        match step:
            case "propose":
                made = primary.propose(what, deadline_ms=primary.ms + number)
                proposals[made.correlation] = made
                check(primary.take(made))
            case "sync":
                sync(number)
            case "ack":
                ack(what, number)
            case "join":
                join(what, number)
            case "leave" if sessions[what]:
                check(primary.leave(what, sessions[what]))
                sessions[what] = 0
            case "turn":
                check(primary.take())
            case "apply":
                check(primary.apply())
            case "tick":
                check(primary.wait(number))
    for _ in range(3):  # everybody comes back, and everything gets everywhere
        for node in OTHERS:
            join(node, 0) if not sessions[node] else ack(node, 0)
        sync(0)
        check(primary.apply())
        check(primary.take())
    assert core.ready and sorted(answered) == sorted(proposals)
    assert all(
        follows(later, batch.position) for batch, later in zip(primary.log, primary.log[1:], strict=False)
    )


@given(steps=STEPS, at=st.integers(0, 40))
def test_whenever_the_reign_ends_nobody_is_left_without_an_answer(steps, at, lead, answers, old_end, deposed):
    primary = lead(end=old_end, term=2).serve()
    for step, what, number in steps[:at]:
        match step:
            case "propose":
                primary.take(primary.propose(what, deadline_ms=primary.ms + number))
            case "sync":
                primary.durable(max(0, primary.core.end.lsn - number))
            case "ack":
                primary.ack(what, max(0, primary.core.end.lsn - number))
            case "leave":
                primary.leave(what)
            case "apply":
                primary.apply()
            case "tick":
                primary.wait(number)
            case _:
                primary.take()
    primary.step(deposed)
    told = [number for _, number in answers(primary.effects)]
    assert sorted(told) == [proposal.correlation for proposal in primary.propose.made]
    assert primary.effects[-1] == EndReign(deposed.error)
