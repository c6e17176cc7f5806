"""When a replica votes, and which reigns it accepts after that."""

from __future__ import annotations

from cluster.effects import Drop, SaveVote, Stood
from redwire.errors import Code
from redwire.position import NodeId, Reign, Term
from tests.follower import FIRST, SOURCE, Follower


def test_while_it_follows_nobody_it_votes_once_a_term_and_only_for_newer_ones() -> None:
    follower = Follower(reign=Reign(Term(3), SOURCE))
    for term in (1, 3):
        assert follower.step(Stood(Reign(Term(term), NodeId("ap-1")))) == []
    vote = Reign(Term(5), NodeId("ap-1"))
    assert SaveVote(vote) in follower.step(Stood(vote))
    assert follower.step(Stood(vote)) == []
    assert follower.step(Stood(Reign(Term(5), SOURCE))) == []
    assert SaveVote(Reign(Term(6), SOURCE)) in follower.step(Stood(Reign(Term(6), SOURCE)))
    assert follower.core.term_min == 6


def test_a_follower_does_not_vote() -> None:
    follower = Follower().follow()
    assert follower.step(Stood(Reign(Term(9), NodeId("ap-1")))) == []


def test_after_a_vote_no_reign_before_it_is_accepted_and_none_beside_it_that_has_not_settled() -> None:
    for reign, settled, accepted in [
        (Reign(Term(4), SOURCE), True, False),
        (Reign(Term(5), SOURCE), False, False),
        (Reign(Term(5), SOURCE), True, True),
        (Reign(Term(6), SOURCE), False, True),
    ]:
        follower = Follower()
        follower.step(Stood(Reign(Term(5), NodeId("ap-1"))))
        effects = follower.found(reign=reign, settled=settled)
        refused = [effect.error.code for effect in effects if isinstance(effect, Drop)]
        assert refused == ([] if accepted else [Code.NOT_READY]), "which ends no reign"
    follower = Follower()
    follower.step(Stood(Reign(Term(5), NodeId("ap-1"))))
    lent = follower.found(reign=FIRST, leads=False)
    assert not any(isinstance(effect, Drop) for effect in lent), "who only lends its log leads nobody"
