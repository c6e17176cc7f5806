"""Any order of events: nothing is acked too early, and nothing committed is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.effects import (
    Append,
    Applied,
    Commit,
    Cut,
    Drop,
    Durable,
    MetaSaved,
    SaveMeta,
    SendAck,
    SourceLost,
    TailCut,
)
from cluster.replica import FollowerState
from redwire.position import EMPTY, Lsn
from tests.follower import FIRST, SECOND, Follower, batches

# A log of the first reign, of which another one, of the second, shares some.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["follow first", "follow second", "lose", "saved", "cut", "receive", "sync", "beat", "apply"]
        ),
        st.integers(0, 3),
    ),
    max_size=40,
)


@given(steps=STEPS, shared=st.integers(0, 6))
def test_in_any_order_nothing_is_acked_too_early_and_nothing_committed_is_cut(steps, shared):
    first = batches(6)
    second = [*first[:shared], *batches(6, SECOND, first[shared - 1].position if shared else EMPTY)]
    follower = Follower()
    core, session, source, disk = follower.core, 0, first, 0
    orders: list[str] = []
    applied, committed = 0, 0

    def take(effects):
        nonlocal committed, disk
        for effect in effects:
            match effect:
                case SendAck(at, sent):
                    assert at == session and not orders
                    assert sent.durable <= disk and sent.applied <= committed
                    assert sent.received == len(follower.log)
                    assert follower.log == source[: len(follower.log)]
                case Commit(watermark):
                    assert committed < watermark <= disk
                    committed = watermark
                case SaveMeta():
                    orders.append("saved")
                case Cut(to, _):
                    assert to.lsn >= committed
                    disk = min(disk, to.lsn)
                    orders.append("cut")
                case Append(batch):
                    assert core.state is FollowerState.FOLLOWING or isinstance(effects[-1], Drop)
                    assert batch == source[batch.last - 1]

    for step, number in steps:
        match step:
            case "follow first" | "follow second":
                wanted = first if step == "follow first" else second
                reign = FIRST if wanted is first else SECOND
                agreed = [mine for mine, theirs in zip(follower.log, wanted, strict=False) if mine == theirs]
                common = agreed[-1].position if agreed else EMPTY
                if core.state is FollowerState.SEARCHING:
                    session, source = session + 1, wanted
                take(follower.found(common, session=session, reign=reign, head=len(wanted)))
            case "lose":
                take(follower.step(SourceLost(session)))
            case "saved" | "cut" if step in orders:
                orders.remove(step)
                take(follower.step(MetaSaved() if step == "saved" else TailCut()))
            case "receive":
                take(follower.receive(*source[len(follower.log) :][:number], session=session))
            case "sync" if "cut" in orders:  # of all that there was before the cut
                disk = len(follower.log)
                take(follower.step(Durable(Lsn(12))))
            case "sync":
                disk = max(disk, len(follower.log) - number)
                take(follower.step(Durable(Lsn(disk))))
            case "beat":
                reign = FIRST if source is first else SECOND
                watermark = min(shared, len(source)) - number
                take(follower.beat(reign=reign, watermark=max(0, watermark), session=session))
            case "apply" if committed > applied:
                applied = committed
                take(follower.step(Applied(Lsn(applied), [])))
        assert core.end == follower.end
        assert core.durable == disk and committed <= core.watermark
