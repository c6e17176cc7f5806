"""The first scenes of the demo, while all regions are well: start, log in, load, receipts, reads, a conflict.

Each is told on the report, and checks what it shows.
"""

from __future__ import annotations

import secrets
import statistics
import time
from functools import partial

import anyio
import anyio.to_thread

from redwire import topology, uri
from redwire.client import Client, connect, dialler
from redwire.errors import Code, Conflict, RedwireError, Refused
from redwire.node_role import NodeRole
from redwire.pending import Pending
from redwire.receipt import Receipt
from redwire.topology import Topology
from tools.accounts import password_user
from tools.demo.characters import COLLECTION
from tools.demo.plan import (
    EVERYWHERE,
    FLOOR,
    LEADER,
    NODES,
    POLICY,
    REGIONS,
    RTT_MS,
    completing_ack,
    floor_ms,
)
from tools.demo.stage import USER, Stage, timed
from tools.dev.joining import all_follow, make_user

JOIN_S = 30.0
"""Five processes that start on two cores."""
IN_FLIGHT = 1_000
"""Over 80 ms that is twelve thousand commits a second: the machine is the limit, not the distance."""
SHOW_EVERY = 250
"""Of so many commits one moves the bar."""
READS = 5
"""The median of so many is the distance: two of them may have met something."""
EARLY_MS = 1.0
"""A link may deliver that much before its time: it leaves early by what waking up usually takes."""


async def start(stage: Stage) -> None:
    """Certificates, five processes, and links between them."""
    report, cluster = stage.report, stage.cluster
    with report.scene("Five nodes in three regions") as scene:
        report.note(f"policy {POLICY}, floor {FLOOR}; TLS between all, certificates of the cluster's own")
        distances = ", ".join(f"{one}-{other} {ms:g} ms" for (one, other), ms in RTT_MS.items())
        report.note(f"round trips between regions: {distances}")
        await anyio.to_thread.run_sync(cluster.start)
        await anyio.to_thread.run_sync(cluster.wait_ready)
        joined = await _join(stage)
        rows = [
            (n.id, n.region, role, f"127.0.0.1:{cluster.ports[n.id]}", cluster.processes[n.id].pid)
            for n in NODES
            for role in [NodeRole.PRIMARY if n == LEADER else NodeRole.REPLICA]
        ]
        report.table(("node", "region", "role", "address", "process"), rows)
        report.check("all replicas follow the primary", joined == len(NODES) - 1, f"{joined}")
        scene.outcome = f"{len(NODES)} processes, {len(REGIONS)} regions"
        scene.facts["nodes"] = [
            {"id": n.id, "region": n.region, "addr": f"127.0.0.1:{cluster.ports[n.id]}"} for n in NODES
        ]


async def _join(stage: Stage) -> int:
    """Wait for the replicas, then make the user; how many replicas are well, once all know the user."""
    cluster, user = stage.cluster, password_user(USER, stage.password, "write")
    async with connect(cluster.uri(LEADER.id)) as admin:
        joined = await all_follow(admin, len(NODES) - 1, cluster.check_processes, timeout_s=JOIN_S)
        await make_user(admin, user, timeout_s=JOIN_S)
    return joined


async def log_in(stage: Stage) -> None:
    """The topology as a stranger sees it, and as a user does; both from a replica."""
    report = stage.report
    with report.scene("Topology before and after login") as scene:
        seed = "us-1"
        config = uri.parse(stage.cluster.uri(seed, user=USER, password=stage.password))
        dialled = await dialler(config, "redwire demo").dial(config.seeds[0])
        dialled.channel.close()
        before, after = (
            None if blob is None else topology.decode(blob)
            for blob in (dialled.established.hello_topology, dialled.established.topology)
        )
        report.check("HelloAck has a topology, and AuthOk too", before is not None and after is not None)
        if before is None or after is None:
            return
        report.note(f"asked {seed}, a replica: any node may be the seed")
        rows = [*_topology_rows(stage, "HelloAck", before), *_topology_rows(stage, "AuthOk", after)]
        report.table(("told in", "address", "node", "region", "role", "healthy"), rows)
        report.check("a stranger learns the primary only", not before.replicas and bool(before.primary.addr))
        regions = sorted({after.primary.region, *(replica.region for replica in after.replicas)})
        report.check(
            "a user learns all nodes",
            len(after.replicas) == len(NODES) - 1 and regions == sorted(REGIONS),
            f"{len(after.replicas) + 1} nodes in {', '.join(regions)}",
        )
        report.check("both name the same epoch", before.epoch == after.epoch, str(after.epoch))
        await stage.open_db()
        scene.outcome = f"1 node before login, {len(after.replicas) + 1} after (SCRAM-SHA-256)"
        scene.facts |= {"epoch": after.epoch, "before": str(before), "after": str(after)}


async def load(stage: Stage) -> None:
    """Every document is a write of its own, with its own commit; a thousand are in flight."""
    report, total = stage.report, len(stage.rows)
    with report.scene(f"Load {total:,} documents, one commit each") as scene:
        latencies_ms: list[float] = []
        failures: list[RedwireError] = []
        places = anyio.Semaphore(IN_FLIGHT)

        def ended(pending: Pending) -> None:
            places.release()
            latencies_ms.append((time.monotonic() - pending.deadline_s + pending.timeout_s) * 1000)
            if pending.error is not None:
                failures.append(pending.error)

        began_s = time.monotonic()
        with report.progress("loading", total) as bar:
            for number, (ident, document) in enumerate(stage.rows):
                await places.acquire()
                stage.db.submit_put(COLLECTION, ident, document, callback=ended)
                if number % SHOW_EVERY == 0:
                    bar.at(len(latencies_ms))
            for _ in range(IN_FLIGHT):
                await places.acquire()
            bar.at(total)
        seconds = time.monotonic() - began_s
        stage.stored = total - len(failures)
        cuts = statistics.quantiles(latencies_ms, n=100)
        rate = round(total / seconds)
        report.note(
            f"{rate:,} documents/s with {IN_FLIGHT:,} in flight; a commit took {cuts[49]:.0f} ms (p50), "
            f"{cuts[98]:.0f} ms (p99); {floor_ms(POLICY):g} ms of that is the round trip"
        )
        report.check("every document is committed", not failures, "; ".join(map(str, failures[:2])))
        scene.outcome = f"{stage.stored:,} commits, {rate:,}/s, p50 {cuts[49]:.0f} ms"
        scene.facts |= {"documents": stage.stored, "documents_per_s": rate, "seconds": round(seconds, 3)}
        scene.facts |= {"p50_ms": round(cuts[49], 1), "p99_ms": round(cuts[98], 1)}


async def receipts(stage: Stage) -> None:
    """One write by each of several policies, and what its receipt proves."""
    report = stage.report
    with report.scene("Who completed the quorum, and when") as scene:
        rows, shown = [], []
        for number, policy in enumerate(("", "majority", EVERYWHERE, "ack_n=4")):
            asked = policy or None
            committed = await stage.db.put("orders", f"order-{number}", {"item": "lamp"}, policy=asked)
            stage.token = committed.receipt.token
            shown.append(committed.receipt.to_json())
            rows.append(_receipt_row(stage, committed.receipt))
        report.table(("policy", "floor ms", "completed by", *(node.id for node in NODES)), rows)
        report.note("the first write names no policy and gets the default; floor: the round trip, at least")
        report.note("under each node: ms until its copy was known to be on disk, if before the answer")
        try:
            await stage.db.put("orders", "order-9", {"item": "lamp"}, policy="local")
            below, refusal = False, "committed"
        except Refused as error:
            below, refusal = error.code is Code.COMMIT_POLICY_BELOW_FLOOR, error.message
        report.check("a policy below the floor is refused before anything is written", below, refusal)
        scene.outcome = f"{len(rows)} policies, each at its round trip; 'local' refused"
        scene.facts |= {"receipts": shown, "refused": refusal}


async def reads(stage: Stage) -> None:
    """A new document, read in every region as fresh as its writer saw it."""
    report, ident = stage.report, "fresh"
    with report.scene("Read it back in each region") as scene:
        rows, facts = [], []
        for region in REGIONS:
            async with stage.client_in(region) as db:
                await db.get("orders", ident)  # a line to the primary stands before anything is timed
                await db.get("orders", ident, read=f"region:{region}")
                note = secrets.token_hex(8)
                written = await stage.db.put("orders", ident, {"note": note})
                token = stage.token = written.receipt.token
                found, first_ms = await timed(
                    partial(db.get, "orders", ident, read=f"region:{region}", at_least=token)
                )
                near_ms = await _median_ms(db, ident, f"region:{region}")
                far_ms = await _median_ms(db, ident, "primary")
            fresh = found is not None and found.value == {"note": note} and found.version == written.version
            report.check(f"{region} reads what was just written", fresh)
            rows.append((region, f"{first_ms:.1f}", f"{near_ms:.1f}", f"{far_ms:.1f}"))
            named_ms = (("with_token_ms", first_ms), ("own_ms", near_ms), ("primary_ms", far_ms))
            facts.append({"region": region} | {name: round(ms, 3) for name, ms in named_ms})
            if region != LEADER.region:
                report.check(f"for {region} its own region is nearer than the primary", near_ms < far_ms)
        report.table(("client in", "own region with token ms", "own region ms", "primary ms"), rows)
        report.note("with token: asked at once; the replica answers when it has applied what the token saw")
        scene.outcome = "; ".join(f"{row[0]} {row[2]} ms, primary {row[3]} ms" for row in rows[1:])
        scene.facts["reads"] = facts


async def conflict(stage: Stage) -> None:
    """Two writers who saw the same version: one of them is told."""
    report = stage.report
    with report.scene("Two writers, one version") as scene:
        seen = await stage.db.get("orders", "order-0")
        version = 0 if seen is None else seen.version
        first = await stage.db.put("orders", "order-0", {"by": "ann"}, if_version=version)
        report.note(f"both saw version {version}; ann's put makes it {first.version}")
        stage.token = first.receipt.token
        try:
            await stage.db.put("orders", "order-0", {"by": "bob"}, if_version=version)
            told, now_at = "committed", 0
        except Conflict as error:
            told, now_at = error.status, error.version
        report.note(f"bob's put: {told}, the document stands at {now_at}")
        kept = await stage.db.get("orders", "order-0")
        report.check(
            "the second put is a typed conflict", (told, now_at) == ("VERSION_MISMATCH", first.version)
        )
        report.check("and it changed nothing", kept is not None and kept.value == {"by": "ann"})
        scene.outcome = f"{told} at version {now_at}"


def _topology_rows(stage: Stage, told: str, shape: Topology) -> list[tuple[str, ...]]:
    primary = shape.primary
    rows: list[tuple[str, ...]] = [
        (told, primary.addr, stage.node_at(primary.addr), primary.region, NodeRole.PRIMARY, "")
    ]
    for replica in shape.replicas:
        healthy = "yes" if replica.healthy else "no"
        rows.append(
            ("", replica.addr, stage.node_at(replica.addr), replica.region, NodeRole.REPLICA, healthy)
        )
    return rows


def _receipt_row(stage: Stage, receipt: Receipt) -> tuple[str, ...]:
    """A receipt as a row; checks that the policy was met, and not before light could have come back."""
    least_ms = floor_ms(receipt.requested)
    ack = completing_ack(receipt)
    met = ack is not None and receipt.achieved == receipt.requested
    stage.report.check(
        f"{receipt.requested} is met, and not sooner than after {least_ms:g} ms",
        met and ack is not None and ack.after_us / 1000 >= least_ms - EARLY_MS,
        "" if met else str(receipt),
    )
    after_ms = {each.node: f"{each.after_us / 1000:.1f}" for each in receipt.acks}
    who = "nobody" if ack is None else f"{ack.node} in {ack.region}"
    return receipt.requested, f"{least_ms:g}", who, *(after_ms.get(node.id, "") for node in NODES)


async def _median_ms(db: Client, ident: str, read: str) -> float:
    times = [(await timed(lambda: db.get("orders", ident, read=read)))[1] for _ in range(READS)]
    return statistics.median(times)
