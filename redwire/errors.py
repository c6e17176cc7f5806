"""Everything redwire raises.

RedwireError                  code, hint, whether a retry may help
├── ProtocolError             the peer broke the protocol: the connection is closed
│   ├── FrameInvalid          framing: length, kind, flags, compression
│   ├── BodyInvalid           a body that does not match its kind's schema
│   └── BatchInvalid          a batch that no primary wrote, or a damaged one
├── RequestInvalid            a request that is refused as it stands (code INVALID)
│   └── TooLarge              over a documented limit (code TOO_LARGE or BATCH_TOO_LARGE)
├── PolicyInvalid             a commit policy that cannot be parsed or met
├── UriInvalid, TokenInvalid, TopologyInvalid
├── TlsInvalid                a certificate, key or CA file that cannot be used; names the file
├── ConnectFailed             no connection came about: name, address, TCP or TLS
├── ChannelClosed             an open connection broke, or we closed it; says why
├── ConfigInvalid             a node's configuration: names file, path and what would be right
├── AuthenticationFailed      wrong credentials, or the server would not take the method
├── Refused                   outcome: certainly not written (or not answered)
│   ├── KeyExpired            the memory of the key is gone
│   ├── KeyClosed             somebody asked for the key before the request came
│   └── NotPrimary            the node reached does not accept writes
├── Conflict                  outcome: committed, and its condition did not hold; nothing changed
├── NotConfirmed              outcome: logged, may or may not survive
├── UnknownOutcome            outcome: the connection or the deadline ended before an answer
├── TokenLost                 the token's term did not survive: what it saw is not in this history
└── DeadlineExceeded          a call that writes nothing ran out of time; names its phase
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redwire.receipt import Receipt
    from redwire.record import Key


class Code(StrEnum):
    """Error codes on the wire, in `Failure` bodies and in front of a driver's Error text."""

    INVALID = "INVALID"
    TOO_LARGE = "TOO_LARGE"
    BATCH_TOO_LARGE = "BATCH_TOO_LARGE"
    UNSUPPORTED = "UNSUPPORTED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    NOT_PRIMARY = "NOT_PRIMARY"
    NOT_READY = "NOT_READY"
    BUSY = "BUSY"
    DISK_FULL = "DISK_FULL"
    COMMIT_POLICY_INVALID = "COMMIT_POLICY_INVALID"
    COMMIT_POLICY_BELOW_FLOOR = "COMMIT_POLICY_BELOW_FLOOR"
    SETTINGS_CHANGED = "SETTINGS_CHANGED"
    INSUFFICIENT_REPLICAS = "INSUFFICIENT_REPLICAS"
    MISSING_REGIONS = "MISSING_REGIONS"
    NOT_CONFIRMED = "NOT_CONFIRMED"
    CONFLICT = "CONFLICT"
    KEY_EXPIRED = "KEY_EXPIRED"
    KEY_CLOSED = "KEY_CLOSED"
    TOKEN_LOST = "TOKEN_LOST"
    STALE = "STALE"
    DAMAGED = "DAMAGED"
    NOT_FOUND = "NOT_FOUND"
    QUERY = "QUERY"
    TIMEOUT = "TIMEOUT"
    # between nodes
    OTHER_CLUSTER = "OTHER_CLUSTER"
    OTHER_NODE = "OTHER_NODE"
    ID_TAKEN = "ID_TAKEN"
    STALE_TERM = "STALE_TERM"
    TERM_TAKEN = "TERM_TAKEN"
    PRIMARY_LACKS_COMMITTED = "PRIMARY_LACKS_COMMITTED"
    SNAPSHOT_NEEDED = "SNAPSHOT_NEEDED"


ASK_HINT = "ask with client.resolve(error.key) what became of it"
"""What to do about an outcome that is not known."""

ELSEWHERE_HINT = 'see client.status(); a read may go to whoever answers, by read="any"'
"""What to do about a primary that does not answer a read."""

UNSETTLED_HINT = "ask again; client.status() tells how the primary is"
"""What to do about a primary that does not say what became of a key, nor that it cannot."""

RETRYABLE = frozenset(
    (
        Code.NOT_PRIMARY,
        Code.NOT_READY,
        Code.BUSY,
        Code.INSUFFICIENT_REPLICAS,
        Code.MISSING_REGIONS,
        Code.DISK_FULL,
    )
)
"""Refusals that can pass by themselves: a client retries them inside its own deadline."""

LONELY = frozenset(
    (Code.INSUFFICIENT_REPLICAS, Code.MISSING_REGIONS, Code.NOT_READY, Code.NOT_CONFIRMED),
)
"""What a primary answers that lacks others, or cannot tell of a write yet, or has not committed anything in
its reign, which may have the same reason: it may be cut off, and another one lead.
"""


_VAGUE = frozenset((Code.INVALID, Code.TIMEOUT))
"""Codes of which the class of the error says more."""
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


class RedwireError(Exception):
    """The root. `str()` says what, where and what to do; `name` and `facts` are the same for programs.

    `without_code` is `message` for whoever shows `name` beside it: a refusal's begins with its code.
    """

    code: Code = Code.INVALID
    retry: bool = False

    def __init__(self, message: str, *, hint: str = "", facts: Mapping[str, object] | None = None) -> None:
        super().__init__(f"{message.removesuffix('.')}; {hint}" if hint else message)
        self.message = self.without_code = message
        self.hint = hint
        self.facts = dict(facts or {})

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled as it is, whatever its class takes to be made; a copy's `facts` are its own."""
        return _again, (type(self), self.args, vars(self) | {"facts": dict(self.facts)})

    @property
    def name(self) -> str:
        """What happened, in one word: the code of the protocol where that says it, else the class, as in
        CONNECT_FAILED.
        """
        return _HUMP.sub("_", type(self).__name__).upper() if self.code in _VAGUE else str(self.code)


def _again(kind: type[RedwireError], args: tuple[object, ...], state: dict[str, object]) -> RedwireError:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error


class ProtocolError(RedwireError):
    """The other side broke the protocol. Nothing on this connection can be trusted any more."""


class FrameInvalid(ProtocolError):
    """Framing is broken: a length, kind, flag or compressed payload that cannot be."""


class BodyInvalid(ProtocolError):
    """A body that its kind's closed schema does not allow."""


class BatchInvalid(ProtocolError):
    """A batch that is damaged, or that only a newer version (`newer`) understands."""

    def __init__(self, message: str, *, newer: bool = False) -> None:
        super().__init__(f"batch {message}")
        self.newer = newer


class RequestInvalid(RedwireError):
    """A request that is refused as it stands. `record` is the place of the bad record, None for the whole;
    `reason` is the message without it, for whoever knows the record by another name.
    """

    code = Code.INVALID

    def __init__(
        self,
        message: str,
        record: int | None = None,
        *,
        hint: str = "",
        facts: dict[str, object] | None = None,
    ) -> None:
        where = "" if record is None else f"record {record}: "
        super().__init__(where + message, hint=hint, facts=facts or {})
        if record is not None:
            self.facts["record"] = record
        self.record = record
        self.reason = message

    def at(self, record: int | None) -> RequestInvalid:
        """The same refusal of a record that stands elsewhere, None where its place says nothing: all but the
        place stays.
        """
        moved = self._anew(record)
        moved.code, moved.retry = self.code, self.retry
        moved.facts = {name: fact for name, fact in self.facts.items() if name != "record"} | moved.facts
        return moved

    def _anew(self, record: int | None) -> RequestInvalid:
        return RequestInvalid(self.reason, record, hint=self.hint)


class TooLarge(RequestInvalid):
    """A documented limit is exceeded; the request was not logged."""

    def __init__(
        self, what: str, size: int, limit: int, *, code: Code = Code.TOO_LARGE, record: int | None = None
    ) -> None:
        super().__init__(f"{what}: {size}, at most {limit}", record, hint="split it")
        self.code = Code(code)
        self.facts |= {"size": size, "limit": limit}
        self.what, self.size, self.limit = what, size, limit

    def _anew(self, record: int | None) -> TooLarge:
        return TooLarge(self.what, self.size, self.limit, record=record)


class PolicyInvalid(RedwireError):
    """A commit policy that cannot be parsed, or that the configured members can never meet."""

    code = Code.COMMIT_POLICY_INVALID


class ConfigInvalid(RedwireError):
    """A configuration that cannot be used. `path` is the place in `file`, such as
    `cluster.members[2].region`; `detail` is the message without them. `others` tell what else is wrong there,
    as far as it was looked at, and have no others themselves.
    """

    def __init__(self, file: str, path: str, message: str, *, hint: str = "") -> None:
        where = f"{file}: {path}: " if path else f"{file}: "
        super().__init__(where + message, hint=hint, facts={"file": file, "path": path})
        self.file = file
        self.path = path
        self.detail = message
        self.others: tuple[ConfigInvalid, ...] = ()


class UriInvalid(RedwireError):
    """A connection URI that cannot be used."""


class TokenInvalid(RedwireError):
    """A text that is no freshness token."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:64]!r} is not a freshness token", hint="pass a receipt's token unchanged")


class TopologyInvalid(RedwireError):
    """A topology blob that is cut short or lies about its lengths."""


class TlsInvalid(RedwireError):
    """A certificate, key or CA file that cannot be used."""

    def __init__(self, path: object, reason: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: {reason}", hint=hint, facts={"file": str(path)})


class ConnectFailed(RedwireError):
    """No connection to `addr` came about. `retry` is False where only a change of names or certificates can
    help.
    """

    def __init__(self, message: str, *, retry: bool, addr: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint, facts={"addresses": [addr]} if addr else {})
        self.retry = retry


class ChannelClosed(RedwireError):
    """An open connection broke, or was closed on our side: what is in flight may or may not arrive.

    `retry` is False where it will never be open again.
    """

    def __init__(self, message: str, *, hint: str = "", retry: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.retry = retry


class AuthenticationFailed(RedwireError):
    """The server did not accept who we say we are."""

    code = Code.UNAUTHENTICATED


class Refused(RedwireError):
    """Certainly not written. `code` says why; `retry` says whether waiting can help."""

    def __init__(
        self, code: Code, message: str, *, hint: str = "", facts: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(f"{code}: {message}", hint=hint, facts=facts)
        self.without_code = message
        self.code = code
        self.retry = code in RETRYABLE


class KeyExpired(Refused):
    """The key was forgotten: the request was not executed now, and whether it was before nobody knows."""

    def __init__(self) -> None:
        text = "the key was forgotten: what became of it cannot be told any more"
        super().__init__(Code.KEY_EXPIRED, text, hint="read the document, then decide")


class KeyClosed(Refused):
    """Somebody asked for the key before the request was executed, and was told: it never will be."""

    def __init__(self) -> None:
        text = "the key was asked for before this request came, and is closed: nothing was written"
        super().__init__(Code.KEY_CLOSED, text, hint="write under a new key")


class NotPrimary(Refused):
    """The node reached does not accept writes; the hint names the one that does, where it is known."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(Code.NOT_PRIMARY, message, hint=hint)


class Conflict(RedwireError):
    """The write was committed and changed nothing, because its condition did not hold.

    `status` is EXISTS, VERSION_MISMATCH or NOT_FOUND; `version` is the document's version then, 0 if absent.
    `receipt` is the proof of the commit.
    """

    code = Code.CONFLICT

    def __init__(self, message: str, *, status: str, version: int) -> None:
        super().__init__(message, facts={"status": status, "version": version})
        self.receipt: Receipt | None = None
        self.status = status
        self.version = version


class NotConfirmed(RedwireError):
    """Logged, but the copies that the policy asks for were not proven in time, or the primary has not applied
    it: may or may not survive, unless `receipt.achieved` names the rule that was met.

    Ask again with the same key (`client.resolve(error.key)`) to learn what became of it. `receipt` shows the
    copies that were proven by then; None where the server did not say.
    """

    code = Code.NOT_CONFIRMED
    retry = True

    def __init__(self, message: str, *, hint: str = "", facts: Mapping[str, object] | None = None) -> None:
        super().__init__(message, hint=hint, facts=facts)
        self.key: Key | None = None
        self.receipt: Receipt | None = None

    @property
    def lsn(self) -> int:
        """The LSN that the request has in the log; 0 where the server did not say."""
        return 0 if self.receipt is None else self.receipt.lsn


class UnknownOutcome(RedwireError):
    """The connection or the deadline ended before an answer: written or not, nobody told us. `phase` names
    where.

    Ask again with the same key (`client.resolve(error.key)`) to learn what became of it.
    """

    code = Code.TIMEOUT
    retry = True

    def __init__(self, message: str, *, phase: str, hint: str = "") -> None:
        super().__init__(message, hint=hint, facts={"phase": phase})
        self.phase = phase
        self.key: Key | None = None


class TokenLost(RedwireError):
    """The history that the token saw was replaced; an answer would silently be another history's."""

    code = Code.TOKEN_LOST


class DeadlineExceeded(RedwireError):
    """A call without effect ran out of its deadline in `phase` (select, connect, send or answer).

    `sent` is whether a node may have got the request: without it nothing can have come of the call.
    """

    code = Code.TIMEOUT
    retry = True

    def __init__(self, message: str, *, phase: str, hint: str = "", sent: bool = False) -> None:
        super().__init__(message, hint=hint, facts={"phase": phase})
        self.phase = phase
        self.sent = sent
