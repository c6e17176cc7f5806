"""What an application passes to a call, checked before anything is done about it: `RequestInvalid` names the
argument.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TypeGuard

from redwire.errors import RequestInvalid, TooLarge
from redwire.message.client import CLIENT_NAME_CHARS_MAX
from redwire.message.cursor import TEXT8_BYTES_MAX, TEXT16_BYTES_MAX
from redwire.position import Token
from redwire.record import CLIENT_BYTES, Key
from redwire.session_keys import WriteKey

VERSION_MAX = (1 << 64) - 1
"""The highest LSN that a record can carry."""
PORT_MAX = 65_535
_CLUSTER = re.compile("[0-9a-f]{32}")
_SEQUENCES = (list, tuple)
_RECORDS = "pass a list of what redwire.document.encode_record returned, and one of the ids of these"


def require_text(what: str, value: object) -> None:
    """`value` must be a text."""
    if not isinstance(value, str):
        raise _of_type(what, value, "pass a str")


def require_sendable(what: str, value: object, bytes_max: int) -> None:
    """`value` must be a text that UTF-8 carries, in no more than `bytes_max` bytes."""
    require_text(what, value)
    try:
        size = len(str(value).encode())
    except UnicodeEncodeError as error:
        raise RequestInvalid(f"{what} is not UTF-8 at character {error.start}") from error
    if size > bytes_max:
        raise TooLarge(f"bytes of {what}", size, bytes_max)


def require_number(what: str, value: object) -> None:
    """`value` must be an int that can be a count or an LSN."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise _of_type(what, value, "pass an int")
    if not 0 <= value <= VERSION_MAX:
        raise RequestInvalid(f"{what} is {value}", hint="it is never below 0, and has 64 bits")


def require_address(what: str, value: object) -> None:
    """`value` must be host:port."""
    require_text(what, value)
    if (
        not re.fullmatch(r"[^\s:][^\s]*:[0-9]{1,5}", str(value))
        or int(str(value).rpartition(":")[2]) > PORT_MAX
    ):
        raise RequestInvalid(f"{what} is {value!r:.80}", hint="pass host:port")


def require_key(value: object) -> None:
    """`value` must be the key of a write."""
    if not isinstance(value, Key):
        raise _of_type("key", value, "pass the key of the error; Key.parse reads its text")
    known = _is_client(value.client) and _is_count(value.sequence) and value.sequence
    if isinstance(value, WriteKey):  # nothing else checks one that was made by hand
        known = known and _are_ids(value.ids) and _is_bool(value.atomic)
    if not known:
        raise RequestInvalid(f"key is {value!r:.160}, which no write has", hint="pass the key of the error")


def require_records(records: object, ids: object) -> None:
    """`records` must be encoded ones, and `ids` those of their documents."""
    if not _is_sequence(records) or not records:
        raise RequestInvalid(f"records is {records!r:.80}", hint=_RECORDS)
    if not _is_sequence(ids):
        raise RequestInvalid(f"ids is {ids!r:.80}", hint=_RECORDS)
    for place, record in enumerate(records):
        if not isinstance(record, bytes):
            raise RequestInvalid(f"it is of type {type(record).__name__}", place, hint=_RECORDS)
    if len(ids) != len(records):
        raise RequestInvalid(f"{len(ids)} ids for {len(records)} records", hint=_RECORDS)
    for place, ident in enumerate(ids):
        if not isinstance(ident, str):
            raise RequestInvalid(f"its id is of type {type(ident).__name__}", place, hint=_RECORDS)


def require_callback(value: object) -> None:
    """`value` must be something to call, or None."""
    if value is not None and not callable(value):
        raise _of_type("callback", value, "pass a function that takes the Pending")


def require_name(value: object) -> None:
    """`value` must be what a client can be called."""
    require_sendable("name", value, TEXT16_BYTES_MAX)
    chars = len(str(value))
    if chars > CLIENT_NAME_CHARS_MAX:
        raise TooLarge("characters of the client's name", chars, CLIENT_NAME_CHARS_MAX)


def require_rows(rows: object) -> None:
    """`rows` must be something that can be gone through, without waiting."""
    if not isinstance(rows, Iterable):
        raise _of_type("rows", rows, "pass a list of documents, or of ids and documents")


def policy_text(policy: str | None) -> str:
    """A commit policy as it is sent, "" for the cluster's default."""
    if policy is None:
        return ""
    require_sendable("policy", policy, TEXT8_BYTES_MAX)
    return policy


def seconds(what: str, value: object) -> float:
    """A time in which something is to be done."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _of_type(what, value, "pass seconds")
    try:
        limit_s = float(value)
    except OverflowError:
        limit_s = math.inf
    if not 0 < limit_s < math.inf:
        raise RequestInvalid(f"{what} is {limit_s:g}", hint="pass finite seconds above 0")
    return limit_s


def token(at_least: Token | str | None) -> Token | None:
    """What must have been seen."""
    if at_least is None:
        return None
    if isinstance(at_least, Token):
        if not (_is_cluster(at_least.cluster) and _is_count(at_least.term) and _is_count(at_least.lsn)):
            text = f"at_least is {at_least!r:.160}, which nobody has seen"
            raise RequestInvalid(text, hint="pass a receipt's token unchanged")
        return at_least
    require_text("at_least", at_least)
    return Token.parse(at_least)


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    """Whether it is a sequence, of other things than itself; of those that mostly come that is soon known."""
    if isinstance(value, _SEQUENCES):
        return True
    return isinstance(value, Sequence) and not isinstance(value, bytes | str)


def _is_client(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == CLIENT_BYTES


def _are_ids(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(ident, str) for ident in value)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_cluster(value: object) -> bool:
    return isinstance(value, str) and _CLUSTER.fullmatch(value) is not None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= VERSION_MAX


def _of_type(what: str, value: object, hint: str) -> RequestInvalid:
    return RequestInvalid(f"{what} is {value!r:.80}, of type {type(value).__name__}", hint=hint)
