"""Where the demo's clients stand: in each region, as far from the nodes of the others as the nodes are.

The links between nodes belong to the cluster. A client that stands in a region of its own takes these: it
reaches the nodes of its region directly, and every other one through a link with that region's distance.
"""

from __future__ import annotations

import anyio
from anyio.abc import TaskStatus

from tools.demo.plan import REGIONS
from tools.dev.link import Link, LinkSpec
from tools.dev.local_cluster import LocalCluster


class Vantages:
    """Links from each region to the nodes of the others."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._links: dict[tuple[str, str], Link] = {}
        for region in REGIONS:
            for node in cluster.plan.nodes:
                delay_ms = cluster.plan.one_way_ms(region, node.region)
                if delay_ms:
                    spec = LinkSpec(
                        name=f"client in {region} to {node.id}",
                        listen_port=0,
                        target_host="127.0.0.1",
                        target_port=cluster.ports[node.id],
                        one_way_ms=delay_ms,
                    )
                    self._links[region, node.id] = Link(spec)

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run the links until cancelled. Started when all can be dialled."""
        async with anyio.create_task_group() as group:
            for link in self._links.values():
                await group.start(link.serve)
            task_status.started()

    def uri(self, region: str, user: str, password: str) -> str:
        """Where a client in `region` finds the cluster, as `user`.

        The nodes advertise addresses without any delay, so the client stays with these (`discovery=off`).
        """
        hosts = ",".join(f"127.0.0.1:{self._port(region, node)}" for node in self._cluster.ports)
        ca = self._cluster.folder / "ca.pem"
        return f"reds://{user}:{password}@{hosts}/?ca={ca}&region={region}&discovery=off"

    def _port(self, region: str, node: str) -> int:
        link = self._links.get((region, node))
        return self._cluster.ports[node] if link is None else link.port
