"""What another member's report means for a reign of ours: its end, or that it needs a newer term (R3, R5).

A reign goes on until another member proves that it is `superseded`. Where one is merely `outbid`, its own
primary opens the next one.
"""

from __future__ import annotations

from cluster.catchup import PARTED_HINT
from redwire.errors import Code, Refused
from redwire.message.peer import REPORT_TERMS_MAX, Report
from redwire.node_role import NodeRole
from redwire.position import Lsn, Term


def superseded(mine: Report, report: Report, *, ready: bool) -> Refused | None:
    """Why our own reign, which `mine` tells of, is over, as another member's report proves; None when it does
    not (R3, R5).

    Nodes can begin reigns out of each other's reach, of one term, or of newer ones over a log that the others
    have outgrown. The one that has committed its first record goes on; `ready` says whether ours has. Of two
    of one term that have not, the one of the node with the lesser name does.
    """
    leads = report.role == NodeRole.PRIMARY
    holds = ready and not mine.given_up(report) and lacks_committed(report, mine)
    if leads and (report.term > mine.term or mine.given_up(report)) and not holds:
        return Refused(Code.STALE_TERM, f"{report.node} leads term {report.term}, term {mine.term} is over")
    if leads and report.term == mine.term and report.node != mine.node and not ready:
        text = f"{report.node} leads term {report.term} too"
        if _begun(report):
            return Refused(Code.TERM_TAKEN, f"{text}, and the others have accepted it")
        if not _begun(mine) and report.node < mine.node:
            return Refused(Code.TERM_TAKEN, f"{text}, and neither has committed anything in it")
    over = ready or report.given_up(mine)
    return None if over or not lacks_committed(mine, report) else outgrown(mine, report)


def _begun(report: Report) -> bool:
    """Whether the reign that `report` tells of has committed its first record."""
    first = next((first for term, first, _ in report.terms if term == report.term), None)
    return first is not None and report.watermark >= first


def outbid(mine: Report, report: Report, *, ready: bool) -> bool:
    """Whether another member knows of a newer term than that of our reign, which `mine` tells of, or has the
    same one from another primary, and neither leads nor follows anybody in it.

    It opened reigns that nobody accepted, or followed one who did, out of our reach, or gave its vote to one
    who did not open. It follows nobody of an older term, nor of the same one before that has committed its
    first record (`ready`), so only a newer reign of ours can have it back.
    """
    if report.role != NodeRole.REPLICA or report.follows:
        return False
    newest = Term(max(report.term, report.vote))
    other = any(
        term == mine.term and holder != mine.node
        for term, holder in ((report.term, report.primary), (report.vote, report.voted_for))
    )
    return newest > mine.term or other and not ready


def outgrown(mine: Report, other: Report) -> Refused:
    """The refusal of a log that lacks what `other` knows committed."""
    text = f"{other.node} knows what is committed up to LSN {other.watermark}, and this log lacks some of it"
    parted = lacks_committed(other, mine) and not mine.given_up(other)
    hint = PARTED_HINT if parted else "start this node with role: replica"
    return Refused(Code.PRIMARY_LACKS_COMMITTED, text, hint=hint)


def lacks_committed(report: Report, other: Report) -> bool:
    """Whether the log behind `report` ends or parts from the other below what that one knows committed (R5).

    Of logs too many reigns apart that cannot be told, and is not said.
    """
    shared = other.term_list.common_end(Lsn(other.last_lsn), report.term_list, Lsn(report.last_lsn))
    told = shared or REPORT_TERMS_MAX not in (len(report.terms), len(other.terms))
    return bool(told) and shared < other.watermark
