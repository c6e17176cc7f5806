"""Any order of events: every proposal is logged or answered once, and its bytes are counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.effects import Proposal
from cluster.intake import Intake, Room
from redwire.batch import BATCH_BYTES_SOFT
from tests.intake_world import OUT_OF_REACH, POLICIES, World, key

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("propose"),
            st.tuples(
                st.sampled_from(["majority", "ack_n=2"]),
                st.sampled_from([10, 1_000, BATCH_BYTES_SOFT - 900]),
                st.integers(1, 6),
                st.integers(1, 2),
            ),
        ),
        st.tuples(
            st.just("take"),
            st.tuples(
                st.sampled_from([0, 3_000, 1 << 30]),
                st.sampled_from([0, 1_500, 1 << 30]),
                st.integers(0, 3),
                st.sampled_from([0, 3_000, 1 << 30]),
            ),
        ),
        st.tuples(st.sampled_from(["ready", "grace", "reach", "recheck"]), st.booleans()),
        st.tuples(st.just("wait"), st.integers(0, 3)),
    ),
    max_size=60,
)


SESSIONS = (object(), object())


@given(steps=STEPS)
def test_every_proposal_is_logged_or_answered_once_and_its_bytes_are_counted(steps, makers):
    (_, propose), world = makers(), World(ready=False)
    intake = Intake(world.lookup, world.reached, world.refusal, world.flights, POLICIES)
    left: dict[int, Proposal] = {}

    def leave(proposal: Proposal, *, answered: bool) -> None:
        assert left.pop(proposal.correlation) is proposal
        assert proposal.answered is answered

    for step, what in steps:
        match step, what:
            case "propose", (policy, size, patience, attempt):
                number = len(propose.made) + 1
                made = propose(
                    policy,
                    size=size,
                    deadline_ms=world.ms + patience,
                    key=key(number),
                    attempt=attempt,
                    session=SESSIONS[number % 2],
                )
                left[made.correlation] = made
                intake.add([made])
            case "take", room:
                turn = world.turn()
                for answer in intake.take(turn, Room(*room)):
                    leave(answer.proposal, answered=True)
                assert len(turn.drafts) <= max(0, room[2])
                for draft in turn.drafts:
                    assert world.ready
                    assert draft.size <= BATCH_BYTES_SOFT or len(draft.proposals) == 1
                    for proposal in draft.proposals:
                        assert proposal.deadline_us > world.ms * 1000
                        assert proposal.policy.text not in world.errors
                        leave(proposal, answered=False)
            case "wait", ms:
                world.ms += ms
                for answer in intake.expired(world.turn()):
                    leave(answer.proposal, answered=True)
                assert all(proposal.deadline_us > world.ms * 1000 for proposal in left.values())
            case "recheck", _:
                intake.recheck()
            case "reach", reached:
                world.errors = {} if reached else {"ack_n=2": OUT_OF_REACH}
            case _:
                setattr(world, step, what)
        assert len(intake) == len(left)
        for session in SESSIONS:
            sizes = [len(proposal.request) for proposal in left.values() if proposal.caller is session]
            assert intake.queued.of(session) == sum(sizes)
        assert intake.queued.size == sum(len(proposal.request) for proposal in left.values())
    for answer in intake.end():
        leave(answer.proposal, answered=True)
    assert not left
