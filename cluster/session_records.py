"""The records of the cluster's own that one client's session asks for: each is a proposal with one answer."""

from __future__ import annotations

from collections.abc import Callable

from cluster.effects import Proposal
from cluster.lone_caller import CameTo, LoneCaller
from cluster.service import Service
from redwire.record import RequestKind, encode_system


class SessionRecords:
    """One session's records of one kind; `under_way` counts those whose answer is still to come."""

    __slots__ = ("_kind", "_service", "under_way")

    def __init__(self, service: Service, kind: RequestKind) -> None:
        self._service = service
        self._kind = kind
        self.under_way = 0

    def proposal(
        self, body: bytes, correlation: int, told: Callable[[CameTo], None], remaining_ms: int
    ) -> Proposal:
        """One more with this body, for a caller who has `remaining_ms` left. The node's queue takes it next;
        `told` learns once what it came to.
        """

        def came(outcome: CameTo) -> None:
            self.under_way -= 1
            told(outcome)

        request = encode_system(self._kind, body)
        caller = LoneCaller(came)
        proposal = self._service.proposal(caller, correlation, self._kind, request, remaining_ms=remaining_ms)
        self.under_way += 1
        return proposal
