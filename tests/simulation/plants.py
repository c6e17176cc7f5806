"""Bugs to plant: a simulator that does not find them finds nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from machines import HERE
from msgspec.structs import replace

from cluster import documents, keys, opening, session_writes, state
from cluster.address import Whereabouts
from cluster.client_ids import ClientIds
from cluster.effects import Effect
from cluster.errors import DiskFailed
from cluster.files import Syscalls
from cluster.freshness import Done, Freshness
from cluster.heard import Heard
from cluster.intake import Intake
from cluster.journal import Journal
from cluster.keys import Absent, Keys, Remembered, Verdict
from cluster.logical import Decision
from cluster.opening import Opening
from cluster.peers import PeerSession
from cluster.reads import Answer, Reads
from cluster.reign import Candidate
from cluster.replica import Replica
from cluster.roster import Roster
from cluster.segment import Mark, Segment
from cluster.segment_writer import SegmentWriter
from cluster.service import Service
from cluster.snapshot import SnapshotReceiver
from cluster.snapshot_library import SnapshotLibrary
from cluster.storage import Storage
from redwire import session_keys
from redwire.batch import Batch
from redwire.course import Course
from redwire.errors import RedwireError
from redwire.keyring import Keyring
from redwire.link import Link
from redwire.message.read import Fetch, Fetched, Scan, Scanned
from redwire.places import Places
from redwire.position import Lsn, Reign, Term, Token
from redwire.record import Key, Op, RequestKind, records, request_heads
from redwire.session_keys import SessionKeys
from regions.coordinator import QuorumCoordinator


@contextmanager
def acks_before_the_sync() -> Iterator[None]:
    """What is on its way to the disk counts as on it."""
    append = Journal.append

    def too_early(journal: Journal, batch: Batch, *rest: Any) -> None:
        append(journal, batch, *rest)
        journal._durable(batch.last)

    with patch.object(Journal, "append", too_early):
        yield


@contextmanager
def votes_in_memory_only() -> Iterator[None]:
    """A vote is told of, and forgotten at a crash."""

    def told(storage: Storage, reign: Reign) -> None:
        meta = storage.journal.disk.meta
        storage.journal.disk.meta = replace(meta, vote=meta.vote.followed_by(reign))

    with patch.object(Storage, "save_vote", told):
        yield


@contextmanager
def no_votes() -> Iterator[None]:
    """A take-over believes what the others report at the moment."""
    with patch.object(Opening, "_undecided", lambda *_: []):
        yield


@contextmanager
def one_copy_is_enough() -> Iterator[None]:
    """What is on the primary's disk is committed."""
    with patch.object(
        QuorumCoordinator, "commit_watermark", lambda table, *_: table.durable(table._table.me)
    ):
        yield


@contextmanager
def clients_that_stay_with_who_is_cut_off() -> Iterator[None]:
    """Of two that lead one term clients write to whom they knew first."""
    with patch.object(Link, "lonely", property(lambda link: None, lambda link, lonely: None), create=True):
        yield


@contextmanager
def retries_that_ask_for_less() -> Iterator[None]:
    """What was executed is called committed, whatever policy it is tried again under."""
    with patch.object(Intake, "_met", lambda intake, policy, known: True):
        yield


@contextmanager
def refusals_that_hide_a_lost_try() -> Iterator[None]:
    """A client calls a write refused of which an earlier try may have been logged."""
    with patch.object(Course, "doubtful", False):
        yield


@contextmanager
def the_shorter_log_leads() -> Iterator[None]:
    """Nobody follows a longer log first."""
    with patch.object(opening, "_further", lambda *_: None):
        yield


@contextmanager
def keys_that_nobody_remembers() -> Iterator[None]:
    """A write that is tried again is executed again."""
    lookup = Keys.lookup

    def forgetful(keys: Keys, key: Key) -> Verdict:
        verdict = lookup(keys, key)
        return Absent() if isinstance(verdict, Remembered) else verdict

    with patch.object(Keys, "lookup", forgetful):
        yield


@contextmanager
def new_clusters_without_votes() -> Iterator[None]:
    """Whoever hears of a majority of empty members begins."""
    with patch.object(Opening, "_elected", lambda *_: None):
        yield


@contextmanager
def no_votes_for_who_led_last() -> Iterator[None]:
    """Whoever led last believes that it did."""
    missing = Opening._missing

    def believed(self: Opening, heard: Heard, term: Term) -> Any:
        return None if self.wrote_last and heard.led_last else missing(self, heard, term)

    with patch.object(Opening, "_missing", believed):
        yield


@contextmanager
def candidates_that_never_give_way() -> Iterator[None]:
    """Whoever is outbid asks for more at once."""

    async def at_once(candidate: Candidate) -> None:
        """No wait."""

    with patch.object(Candidate, "_give_way", at_once):
        yield


@contextmanager
def members_that_ask_once_for_a_log() -> Iterator[None]:
    """Who is told to take a snapshot asks for no log on that line any more."""
    failed = PeerSession._failed

    def told(session: PeerSession, error: RedwireError) -> None:
        asked = session._asked
        failed(session, error)
        session._asked = asked

    with patch.object(PeerSession, "_failed", told):
        yield


@contextmanager
def syncs_that_are_tried_again() -> Iterator[None]:
    """A second sync is believed, which knows nothing of the pages that the first one could not write."""
    write = SegmentWriter.write

    def again(writer: SegmentWriter, segment: Segment, batches: Sequence[Batch], mark: Mark) -> None:
        try:
            write(writer, segment, batches, mark)
        except DiskFailed:
            writer.failed = None
            with patch.object(Syscalls, "write_all", lambda _, fd, data, at: at + sum(map(len, data))):
                write(writer, segment, batches, mark)

    with patch.object(SegmentWriter, "write", again):
        yield


@contextmanager
def conditions_that_only_who_leads_looks_at() -> Iterator[None]:
    """Whether a document has the version that a write asks for is decided by each node for itself."""
    decide = documents.decide

    def lax(op: Op, wanted: int | None, current: int, lsn: int, **how: bool) -> Decision:
        return decide(op, wanted if HERE.get().leads else None, current, lsn, **how)

    with patch.object(documents, "decide", lax):
        yield


@contextmanager
def who_starts_anew_does_not_know_whom_it_forgot() -> Iterator[None]:
    """That a client was forgotten is not stored: what comes from it may be executed again."""
    with patch.object(state, "Keys", lambda forgotten_through: Keys()):
        yield


@contextmanager
def snapshots_that_never_find_room() -> Iterator[None]:
    """Who had no room for one believes that it has none."""
    with patch.object(SnapshotReceiver, "has_room", lambda receiver: False):
        yield


@contextmanager
def replicas_that_do_not_wait() -> Iterator[None]:
    """A read is answered at once, whatever its token has seen."""

    def at_once(
        waiting: Freshness, token: Token, wait_ms: int, now_ms: int, _: object, done: Done, *, holder: str
    ) -> None:
        done(None)

    with patch.object(Freshness, "wait", at_once):
        yield


@contextmanager
def reads_of_what_is_logged() -> Iterator[None]:
    """A read sees the newest write in the log, committed or not."""
    read = Reads.read

    def ahead(reads: Reads, asked: Fetch | Scan, answer: Answer) -> None:
        log = reads._node.storage.log

        def told(result: Fetched | Scanned | RedwireError) -> None:
            if isinstance(asked, Fetch) and isinstance(result, Fetched):
                for batch in log.tail.after(Lsn(result.applied), 1 << 20, log.end.lsn) or ():
                    result = _newest(batch, asked.id) or result
            answer(result)

        read(reads, asked, told)

    with patch.object(Reads, "read", ahead):
        yield


def _newest(batch: Batch, ident: str) -> Fetched | None:
    """What `batch` would make of a document, if anything."""
    lsn, found = batch.first, None
    for head in request_heads(batch.body):
        written = records(head.data) if head.kind is RequestKind.WRITE else ()
        for at, (_, _, _, name, doc, _) in enumerate(written, lsn):
            if name.decode() == ident and doc:
                found = Fetched(True, at, batch.reign.term, batch.last, doc)
        lsn = Lsn(lsn + head.count)
    return found


@contextmanager
def primaries_that_read_before_their_first_record() -> Iterator[None]:
    """Who has begun to lead answers reads, whatever it has applied of what was acknowledged before."""
    with patch.object(Reads, "check", lambda reads: None):
        yield


@contextmanager
def seals_that_nobody_looks_at() -> Iterator[None]:
    """Whoever has seen a client id writes under it, and settles its keys."""
    with patch.object(ClientIds, "include", lambda ids, client: True):
        yield


@contextmanager
def seals_that_bind_no_user() -> Iterator[None]:
    """A client id is anybody's, if only a node of this cluster has issued it."""
    init = ClientIds.__init__

    def unnamed(ids: ClientIds, *known: Any) -> None:
        init(ids, *known)
        ids._name = b""

    with patch.object(ClientIds, "__init__", unnamed):
        yield


@contextmanager
def writes_under_forgotten_ids() -> Iterator[None]:
    """A client id that is not known is a new one, whenever it was issued."""
    forget = Keys._forget

    def unnoticed(keys: Keys, client: bytes) -> None:
        before = keys.forgotten_through
        forget(keys, client)
        keys.forgotten_through = before

    with patch.object(Keys, "_forget", unnoticed):
        yield


@contextmanager
def users_that_crowd_out_others() -> Iterator[None]:
    """Whoever wrote last the longest ago is forgotten, however few clients its user has."""
    forget = Keys._forget
    with patch.object(Keys, "_forget", lambda keys, client: forget(keys, next(iter(keys._clients)))):
        yield


@contextmanager
def clients_that_keep_a_forgotten_id() -> Iterator[None]:
    """Who is told that its id was forgotten takes the next key of the same one."""

    async def kept(of: Places, keys: SessionKeys) -> None:
        """No node need be asked."""

    with patch.object(Places, "replace", kept):
        yield


@contextmanager
def clients_that_overrun_their_window() -> Iterator[None]:
    """A client takes the next sequence, however long an older one has been waiting."""

    with _always_room(lambda keys: None):
        yield


@contextmanager
def windows_that_nobody_keeps() -> Iterator[None]:
    """The same, and no node minds."""
    with (
        clients_that_overrun_their_window(),
        patch.object(keys, "within_window", lambda key: True),
        patch.object(session_writes, "within_window", lambda key: True),
    ):
        yield


@contextmanager
def windows_that_let_go_of_who_waits() -> Iterator[None]:
    """A client promises never to ask again for a write that it still sends, where others need the place."""

    def let_go(keys: SessionKeys) -> None:
        while keys._next - keys.oldest >= session_keys.OPEN_MAX:
            keys.close(keys.oldest)

    with _always_room(let_go):
        yield


@contextmanager
def _always_room(make: Callable[[SessionKeys], None]) -> Iterator[None]:
    """Each id has a place for one more write, once it was made."""

    def take(keys: SessionKeys) -> int:
        make(keys)
        keys._next += 1
        return keys._next - 1

    with (
        patch.object(SessionKeys, "take", take),
        patch.object(SessionKeys, "full", False),
        patch.object(SessionKeys, "stuck", False),
    ):
        yield


@contextmanager
def clients_with_one_id() -> Iterator[None]:
    """One write that waits for long holds up all that its client writes after it."""
    with patch.object(Keyring, "narrow", False):
        yield


@contextmanager
def offers_that_nobody_looks_for() -> Iterator[None]:
    """A snapshot that was made once is offered for ever, whatever was removed, and whether it can be read."""
    exists = Path.exists

    def believed(path: Path) -> bool:
        return path.name.startswith("offer-") or exists(path)

    async def kept(_: SnapshotLibrary, gone: Sequence[object]) -> None:
        pass

    with patch.object(Path, "exists", believed), patch.object(SnapshotLibrary, "_forget", kept):
        yield


@contextmanager
def client_ids_before_there_is_a_secret() -> Iterator[None]:
    """Who belongs to a cluster issues client ids, whether it has the cluster's secret or not."""
    with patch.object(Service, "issues_ids", property(lambda of: of.node.storage.meta.cluster != "")):
        yield


@contextmanager
def seals_of_one_s_own_secret() -> Iterator[None]:
    """Before it has the cluster's secret a node holds client ids against that of its own directory."""
    with patch.object(Service, "secret", property(lambda of: of.node.storage.secret())):
        yield


@contextmanager
def no_guides() -> Iterator[None]:
    """Only whoever leads is followed, also by those who do not know of it."""
    with patch.object(Roster, "guide", lambda roster, knows, end, term_min: None):
        yield


@contextmanager
def no_word_of_a_new_address() -> Iterator[None]:
    """A member is looked for where the settings say, and nowhere else."""
    with patch.object(Whereabouts, "told", lambda whereabouts, text: None):
        yield


@contextmanager
def followers_of_nobody_that_apply_all_they_hold() -> Iterator[None]:
    """Who has lost its source takes what came from it for committed."""
    commit = Replica._commit

    def all_of_it(replica: Replica) -> list[Effect]:
        if replica.searching:
            replica.watermark = replica.durable
        return commit(replica)

    with patch.object(Replica, "_commit", all_of_it):
        yield


PLANTS: Mapping[str, Callable[[], Any]] = {
    plant.__name__: plant
    for plant in (
        acks_before_the_sync,
        votes_in_memory_only,
        no_votes,
        one_copy_is_enough,
        clients_that_stay_with_who_is_cut_off,
        refusals_that_hide_a_lost_try,
        retries_that_ask_for_less,
        the_shorter_log_leads,
        keys_that_nobody_remembers,
        new_clusters_without_votes,
        candidates_that_never_give_way,
        no_votes_for_who_led_last,
        members_that_ask_once_for_a_log,
        syncs_that_are_tried_again,
        conditions_that_only_who_leads_looks_at,
        who_starts_anew_does_not_know_whom_it_forgot,
        snapshots_that_never_find_room,
        replicas_that_do_not_wait,
        reads_of_what_is_logged,
        primaries_that_read_before_their_first_record,
        seals_that_nobody_looks_at,
        seals_that_bind_no_user,
        writes_under_forgotten_ids,
        clients_that_keep_a_forgotten_id,
        clients_that_overrun_their_window,
        windows_that_nobody_keeps,
        windows_that_let_go_of_who_waits,
        clients_with_one_id,
        offers_that_nobody_looks_for,
        client_ids_before_there_is_a_secret,
        seals_of_one_s_own_secret,
        users_that_crowd_out_others,
        no_guides,
        no_word_of_a_new_address,
        followers_of_nobody_that_apply_all_they_hold,
    )
}
