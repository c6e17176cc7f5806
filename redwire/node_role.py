"""What a node does in its cluster at the moment, in the words that it says so with."""

from __future__ import annotations

from enum import StrEnum


class NodeRole(StrEnum):
    """What a node does, as reports, Opened and the status document say it.

    There it is text, and stays text when it is read: a newer node may do what has no word here, and is then
    none of these. What a node was told to do when it starts is `cluster.config.ReplicationRole`: two of the
    words, with this meaning.
    """

    PRIMARY = "primary"
    """It leads."""
    OPENING = "opening"
    """It was told to lead, and asks whether it may."""
    REPLICA = "replica"
    """It follows, or looks for whom to follow."""
    REBUILDING = "rebuilding"
    """It takes a snapshot, and follows nobody until that is installed."""
