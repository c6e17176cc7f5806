"""SQL of drivers, over this node's applied state: asked of the processes that run it, and waited for."""

from __future__ import annotations

import time

from cluster.awaited import Awaited
from cluster.errors import NodeError
from cluster.service import Service
from cluster.sql_process import SQL_PROCESSES, SqlRequest
from redwire.errors import Code, RedwireError, Refused
from redwire.frame import Kind
from redwire.handshake import Principal

ANSWER_S = 25.0
"""Drivers give up after 30 s, and then take the late answer for the next one's."""

Answer = tuple[Kind, bytes]
"""A driver's answer: its kind, and its payload."""


class DriverQueries:
    """The SQL of driver sessions, whatever this node's role."""

    def __init__(self, service: Service, principal: Principal) -> None:
        self._service = service
        self._asker = f"{principal.kind} {principal.name}"

    async def answer(self, kind: Kind, payload: bytes) -> Answer:
        """What a Query (01), a QueryBinary (07) or a QueryWithParams (28) comes to, in its own form. Raises
        `QueryFailed` or `Refused`.
        """
        node = self._service.node
        self._service.reads.check()
        answer = Awaited[bytes | RedwireError]()
        request = SqlRequest(kind, payload, time.monotonic() + ANSWER_S, self._asker)
        node.storage.reads.sql.submit(request, answer.settle)
        result = await answer.wait(ANSWER_S)
        if result is None:
            text = f"the statement was not answered within {ANSWER_S:g} s: {SQL_PROCESSES} run at once"
            raise Refused(Code.TIMEOUT, text, hint="others were before it: ask again, and for less at once")
        if isinstance(result, NodeError):
            raise node.damage.told(result)
        if isinstance(result, RedwireError):
            raise result
        return Kind.RESULT, result
