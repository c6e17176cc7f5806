"""What the tests of an intake share: its world, and a turn."""

from __future__ import annotations

import pytest

from cluster.intake import Intake
from tests.intake_world import AMPLE, POLICIES, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def intake(world) -> Intake:
    return Intake(world.lookup, world.reached, world.refusal, world.flights, POLICIES)


@pytest.fixture
def take(intake, world):
    """A turn with these proposals: its drafts, by number, and its answers."""

    def taken(*proposals, room=AMPLE):
        intake.add(proposals)
        turn = world.turn()
        answers = intake.take(turn, room)
        return [[each.correlation for each in draft.proposals] for draft in turn.drafts], answers

    return taken
