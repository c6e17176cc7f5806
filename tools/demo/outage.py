"""The last scenes of the demo: a whole region hangs, then dies, and comes back."""

from __future__ import annotations

import hashlib
import signal

import anyio
import anyio.to_thread

from redwire.client import connect
from redwire.errors import Code, NotConfirmed, RedwireError, Refused
from redwire.position import Token
from redwire.record import Key
from tools.demo.characters import COLLECTION
from tools.demo.plan import FLOOR, LEADER, NODES, POLICY, STOPPED_REGION, completing_ack
from tools.demo.stage import Stage, timed
from tools.dev.joining import all_follow, eventually

HANG_PATIENCE_S = 2.0
"""The deadline of the write that is caught by the hanging region."""
PATIENCE_S = 0.5
"""Long enough for any commit of what is left, short enough to watch it fail."""
NOTICED_S = 15.0
"""Three times as long as a silent member counts as in reach."""
RETURN_S = 30.0
"""Nodes that start, and then take in what they missed."""
SCAN_S = 60.0
"""Page after page over the longest link, on a busy machine."""

GONE = tuple(node.id for node in NODES if node.region == STOPPED_REGION)


async def outage(stage: Stage) -> Key | None:
    """Freeze a region under a write, then kill it. The key of the write that nobody confirmed."""
    report, cluster = stage.report, stage.cluster
    with report.scene(f"Region {STOPPED_REGION} hangs, then dies") as scene:
        for node in GONE:
            cluster.signal_node(node, signal.SIGSTOP)
        report.note(f"SIGSTOP to {' and '.join(GONE)}: they are silent, and nobody knows it yet")
        key = await _caught(stage)
        for node in GONE:
            await anyio.to_thread.run_sync(cluster.kill, node)
        report.note(f"SIGKILL to {' and '.join(GONE)}")
        refused = await _default_refused(stage)
        report.check(
            f"a write by {POLICY} is refused before it is logged", refused is not None, refused or ""
        )
        receipt = (await stage.db.put("orders", "in-the-storm", {"by": "ann"}, policy=FLOOR)).receipt
        stage.token = receipt.token
        ack = completing_ack(receipt)
        after_ms = 0.0 if ack is None else ack.after_us / 1000
        report.check(
            f"a write by {FLOOR} commits",
            ack is not None and ack.region not in (LEADER.region, STOPPED_REGION),
            str(receipt)
            if ack is None
            else f"completed by {ack.node} in {ack.region} after {after_ms:.1f} ms",
        )
        async with stage.client_in("ap") as away:
            found = await away.get("orders", "in-the-storm", read="region:ap", at_least=receipt.token)
        report.check("and ap reads it", found is not None and found.value == {"by": "ann"})
        scene.outcome = f"{POLICY} refused, {FLOOR} commits in {after_ms:.0f} ms"
        scene.facts |= {"refused": refused or "", "receipt": receipt.to_json()}
        return key


async def _caught(stage: Stage) -> Key | None:
    """A write by the default policy while the region hangs: it is logged, and not confirmed."""
    error: RedwireError | None = None
    try:
        await stage.db.put("orders", "caught", {"by": "bob"}, timeout_s=HANG_PATIENCE_S)
    except RedwireError as caught:
        error = caught
    ok = isinstance(error, NotConfirmed)
    stage.report.check(f"a write by {POLICY} is logged and not confirmed", ok, "" if ok else repr(error))
    if not isinstance(error, NotConfirmed):
        return None
    if error.receipt is not None:
        copies = ", ".join(f"{ack.node} {ack.after_us / 1000:.1f} ms" for ack in error.receipt.acks)
        stage.report.note(
            f"requested {error.receipt.requested}, achieved {error.receipt.achieved or 'nothing'}; "
            f"copies: {copies}"
        )
    return error.key


async def _default_refused(stage: Stage) -> str | None:
    """Why the default policy is refused once the region is known to be gone; None if it never is."""
    refusal: str | None = None

    async def refused() -> bool:
        nonlocal refusal
        try:
            await stage.db.put("orders", "refused", {"by": "bob"}, timeout_s=PATIENCE_S)
        except Refused as error:
            refusal = error.message if error.code is Code.MISSING_REGIONS else None
        except RedwireError:
            pass  # not noticed yet
        return refusal is not None

    await eventually(refused, timeout_s=NOTICED_S)
    return refusal


async def comeback(stage: Stage, key: Key | None) -> None:
    """Start the region again, and compare what every node holds."""
    report, cluster = stage.report, stage.cluster
    with report.scene(f"Region {STOPPED_REGION} comes back") as scene:
        for node in GONE:
            cluster.start_node(node)

        others = len(NODES) - 1
        healthy, ms = await timed(
            lambda: all_follow(stage.db, others, cluster.check_processes, timeout_s=RETURN_S)
        )
        report.check("its nodes follow again", healthy == others, f"after {ms / 1000:.1f} s")
        committed = await stage.db.put("orders", "after", {"by": "ann"})
        stage.token = committed.receipt.token
        ack = completing_ack(committed.receipt)
        report.check(
            f"a write by {POLICY} commits again",
            ack is not None and ack.region == STOPPED_REGION,
            "" if ack is None else f"completed by {ack.node} after {ack.after_us / 1000:.1f} ms",
        )
        if key is not None:
            resolved = await stage.db.resolve(key)
            report.check(
                "the write that was not confirmed can be asked for by its key",
                resolved.receipt.lsn > 0,
                f"committed at LSN {resolved.receipt.lsn}",
            )
        held = await _held_everywhere(stage, stage.token)
        rows = [(node.id, node.region, f"{held[node.id][0]:,}", held[node.id][1][:16]) for node in NODES]
        report.table(("node", "region", "documents", "sha256 of ids, versions, documents"), rows)
        counts = {count for count, _ in held.values()}
        report.check("every node holds every document", counts == {stage.stored}, f"{stage.stored:,}")
        report.check("byte for byte the same", len({digest for _, digest in held.values()}) == 1)
        scene.outcome = f"caught up in {ms / 1000:.1f} s; {len(held)} nodes hold the same {stage.stored:,}"
        scene.facts["held"] = {node: {"documents": n, "sha256": digest} for node, (n, digest) in held.items()}


async def _held_everywhere(stage: Stage, token: Token) -> dict[str, tuple[int, str]]:
    """What each node answers to a scan of the whole collection: how many documents, and their hash."""
    held: dict[str, tuple[int, str]] = {}

    async def scan(node: str, region: str) -> None:
        digest, count = hashlib.sha256(), 0
        async with connect(stage.cluster.uri(node, discovery="off")) as db:
            pages = db.scan(COLLECTION, read=f"region:{region}", at_least=token, timeout_s=SCAN_S)
            async for document in pages:
                digest.update(f"{document.id} {document.version} ".encode() + document.raw)
                count += 1
        held[node] = count, digest.hexdigest()

    async with anyio.create_task_group() as group:
        for node in NODES:
            group.start_soon(scan, node.id, node.region)
    return held
