"""The folder of a cluster on this machine: plan, ports, certificates, node.yaml files, addresses.

Everything that has to be the same when the cluster is started again stands in it; `cluster.json` holds the
plan and the ports. Nothing here runs.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import msgspec
import yaml

from cluster.config import ReplicationRole
from redwire.handshake import DNS_LABEL
from tools.dev import control
from tools.dev.certificates import HOST, remove_certificates, write_certificates
from tools.dev.link import LinkSpec
from tools.dev.place import typed
from tools.dev.plan import ClusterPlan, NodePlan
from tools.errors import ClusterMissing, PlanInvalid

if TYPE_CHECKING:
    from tools.authority import Authority

PORTS = range(10_000, 30_000)
"""Below what the system takes for outgoing connections, from 32,768 on."""
ADMIN = "ops"
LINKS = "delay links"
"""What the links are called among processes; no node can have this name."""
STATE = "cluster.json"
UNFINISHED = f"{STATE}.new"
"""What a crash may leave in a folder before there is a cluster in it."""


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """cluster.json. `ports` are those of the nodes, and of the links, by who dials whom."""

    version: int = 1
    name: str
    nodes: tuple[NodePlan, ...]
    rtt_ms: tuple[tuple[str, str, float], ...]
    jitter_ms: float
    settings: dict[str, Any]
    node_sections: dict[str, Any]
    ports: dict[str, int]

    @property
    def plan(self) -> ClusterPlan:
        rtt_ms = {(here, there): ms for here, there, ms in self.rtt_ms}
        return ClusterPlan(self.nodes, self.name, rtt_ms, self.jitter_ms, self.settings, self.node_sections)


class ClusterFolder:
    """One plan in one folder. A folder that was used before keeps its ports, certificates and YAML files."""

    def __init__(self, plan: ClusterPlan, folder: Path) -> None:
        """Nothing is written yet. Raises `ClusterMissing` when a `cluster.json` there cannot be read."""
        self.plan = plan
        self.folder = folder.resolve()  # what runs of it is known by this spelling
        saved = _load(folder)
        nodes, routes = [node.id for node in plan.nodes], [route for route, *_ in self._routes()]
        ports = _ports([*nodes, *routes], saved.ports if saved else {})
        self.ports = {node: ports[node] for node in nodes}
        self._link_ports = {route: ports[route] for route in routes}

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The cluster whose folder this is. Raises `ClusterMissing`."""
        saved = _load(folder)
        if saved is None:
            raise ClusterMissing(f"there is no cluster in {folder}", hint=f"make one: {typed(folder, 'up')}")
        return cls(saved.plan, folder)

    @staticmethod
    def is_one(folder: Path) -> bool:
        """Whether a cluster was made in this folder."""
        return (folder / STATE).exists()

    def write(self) -> None:
        """Write what is missing, and the plan. What stands there already stays, but for old certificates."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        plan = self.plan
        state = _State(
            name=plan.name,
            nodes=plan.nodes,
            rtt_ms=tuple((here, there, ms) for (here, there), ms in plan.rtt_ms.items()),
            jitter_ms=plan.jitter_ms,
            settings=dict(plan.settings),
            node_sections=dict(plan.node_sections),
            ports=self.ports | self._link_ports,
        )
        _replace(self.folder / STATE, msgspec.json.format(msgspec.json.encode(state)))
        _replace(self.links_spec, msgspec.json.format(msgspec.json.encode(self.link_specs())))
        write_certificates(self.folder, plan.name, [ADMIN], list(self.ports))
        for node in plan.nodes:
            if not self.config_path(node.id).exists():
                text = yaml.safe_dump(self.config(node), sort_keys=False)
                _replace(self.config_path(node.id), text.encode())

    def purge(self) -> None:
        """Remove everything that clusters write here, and the folder if nothing else is in it."""
        for node in self.plan.nodes:
            shutil.rmtree(self.data_dir(node.id), ignore_errors=True)
            self.log_path(node.id).unlink(missing_ok=True)
        remove_certificates(self.folder, "ca", ADMIN, *self.ports)
        for path in (self.links_socket, self.links_log):
            path.unlink(missing_ok=True)
        for path in (*map(self.config_path, self.ports), self.links_spec, self.folder / STATE):
            _draft(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    # --- where things are

    def config_path(self, node: str) -> Path:
        """The node's YAML file."""
        return self.folder / f"{node}.yaml"

    def data_dir(self, node: str) -> Path:
        """The node's data directory."""
        return self.folder / f"data-{node}"

    def log_path(self, node: str) -> Path:
        """What the node said on standard error, over all its lives."""
        return self.folder / f"{node}.log"

    @property
    def links_spec(self) -> Path:
        """The links, as `tools.dev.links` reads them."""
        return self.folder / "links.json"

    @property
    def links_socket(self) -> Path:
        """Where the links take commands."""
        return self.links_spec.with_suffix(".sock")

    @property
    def links_log(self) -> Path:
        """What the links said."""
        return self.links_spec.with_suffix(".log")

    @property
    def commands(self) -> dict[str, list[str]]:
        """The command of every process: of each node by its id, of the links (if any) as `LINKS`."""
        python = [sys.executable, "-m"]
        commands = {
            node: [*python, "cluster.start", "--config", str(self.config_path(node))] for node in self.ports
        }
        return commands | (
            {LINKS: [*python, "tools.dev.links", str(self.links_spec)]} if self.plan.rtt_ms else {}
        )

    def command(self, line: str) -> str:
        """Tell the links: `cut eu-us`, `heal eu-us`, `slow eu-us 400`; their answer. Raises `LinkInvalid`."""
        return control.ask(self.links_socket, line)

    def uri(
        self, *nodes: str, user: str | None = None, password: str = "", within: str = "", **parameters: str
    ) -> str:
        """A connection URI: as the administrator with its certificate, or as `user` with a password.

        A client stands beside every node, unless it is `within` a region: then it is as far from the nodes of
        the others as that region is. Nodes advertise addresses without delay, so it keeps to its URI's.
        """
        hosts = ",".join(f"{HOST}:{self._port(within, node)}" for node in nodes or self.ports)
        query = {"ca": str(self.folder / "ca.pem")}
        if user is None:
            query |= {"cert": str(self.folder / f"{ADMIN}.pem"), "key": str(self.folder / f"{ADMIN}.key")}
        if within:
            query |= {"region": within, "discovery": "off"}
        who = f"{user}:{quote(password, safe='')}@" if user is not None else ""
        text = "&".join(f"{name}={quote(value, safe='/:,')}" for name, value in (query | parameters).items())
        return f"reds://{who}{hosts}/?{text}"

    # --- links

    def link_specs(self) -> list[LinkSpec]:
        """A link from every node, and from the clients of every region, to each node of another region."""
        return [
            LinkSpec(
                here=here,
                there=node.region,
                listen_port=self._link_ports[route],
                target_host=HOST,
                target_port=self.ports[node.id],
                one_way_ms=self.plan.one_way_ms(here, node.region) or 0,
                jitter_ms=self.plan.jitter_ms / 2,
            )
            for route, here, node in self._routes()
        ]

    def _routes(self) -> Iterator[tuple[str, str, NodePlan]]:
        """(who dials whom, the region of who dials, the node that is dialled) for each link."""
        dialling = [(node.id, node.region) for node in self.plan.nodes]
        dialling += [(_clients(region), region) for region in self.plan.regions]
        for who, here in dialling:
            for node in self.plan.nodes:
                if self.plan.one_way_ms(here, node.region) is not None:
                    yield _route(who, node.id), here, node

    def _port(self, region: str, node: str) -> int:
        """Where a client in `region` dials a node."""
        return self._link_ports.get(_route(_clients(region), node), self.ports[node])

    # --- files

    def config(self, node: NodePlan) -> dict[str, Any]:
        """What stands in the node's YAML file at first."""
        members = [
            {"id": each.id, "region": each.region, "addr": f"{HOST}:{self.ports[each.id]}", "kind": each.kind}
            for each in self.plan.nodes
        ]
        leads = node == self.plan.leader
        routes = {other: self._link_ports.get(_route(node.id, other)) for other in self.ports}
        dial = {other: f"{HOST}:{port}" for other, port in routes.items() if port is not None}
        return {
            "node": {
                "id": node.id,
                "region": node.region,
                "role": (ReplicationRole.PRIMARY if leads else ReplicationRole.REPLICA).value,
                "listen": f"{HOST}:{self.ports[node.id]}",
                "data_dir": str(self.data_dir(node.id)),
                **({"dial": dial} if dial else {}),
            },
            "tls": {
                "ca": str(self.folder / "ca.pem"),
                "cert": str(self.folder / f"{node.id}.pem"),
                "key": str(self.folder / f"{node.id}.key"),
            },
            **self.plan.node_sections,
            "cluster": {"name": self.plan.name, "members": members, "admins": [ADMIN], **self.plan.settings},
        }

    @cached_property
    def authority(self) -> Authority:
        """The cluster's authority, which `write` has made. Raises `AuthorityInvalid`."""
        from tools.authority import Authority  # loading cryptography takes longer than all else

        return Authority.load(self.folder)


def make_private(folder: Path) -> None:
    """Leave `folder` to its owner alone, whoever could write there before. Raises `PlanInvalid` for one that
    is somebody else's.
    """
    found = folder.stat()
    if found.st_uid != os.geteuid():
        hint = "name a folder of your own with --dir"
        raise PlanInvalid(f"{folder} is another user's, who could read its keys", hint=hint)
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def private(path: str, flags: int) -> int:
    """As an opener: a file that is made is for its owner alone."""
    return os.open(path, flags, 0o600)


def free_ports(count: int, taken: Collection[int] = ()) -> Sequence[int]:
    """Ports that nobody has, listening or held, and which the system gives to nobody who dials out: so nobody
    is there yet when a node starts, and nobody when it starts again. None of those that are `taken`.
    """
    found: list[int] = []
    untried = list(PORTS)
    while untried and len(found) < count:
        port = untried.pop(random.randrange(len(untried)))
        if port not in taken and _is_nobodys(port):
            found.append(port)
    return found


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of loopback."""
    with socket.socket() as sock:
        return bool(sock.connect_ex((HOST, port)))


def held(port: int) -> socket.socket:
    """A socket that has this port of loopback and does not listen, to be closed by the caller: who starts
    there meanwhile can, and `free_ports` finds no free one.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with suppress(OSError):  # somebody listens there
        sock.bind((HOST, port))
    return sock


def _is_nobodys(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
        return True


def _ports(names: Sequence[str], known: dict[str, int]) -> dict[str, int]:
    """A port for each name: the one that is known, or a free one. Files of nodes name the known ones."""
    fresh = [name for name in names if name not in known]
    return known | dict(zip(fresh, free_ports(len(fresh), known.values()), strict=True))


def _clients(region: str) -> str:
    return f"clients in {region}"


def _route(who: str, node: str) -> str:
    return f"{who} to {node}"


def _load(folder: Path) -> _State | None:
    path, hint = folder / STATE, "take another folder with --dir"
    try:
        state = msgspec.json.decode(path.read_bytes(), type=_State)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ClusterMissing(f"{path} does not describe a cluster: {error}", hint=hint) from error
    names = [state.name, *(name for node in state.nodes for name in (node.id, node.region))]
    strange = [name for name in names if not DNS_LABEL.match(name)]
    if strange:  # files are named for them, and removed by `down --purge`
        text = f"{path} does not describe a cluster: {strange[0][:64]!r} is no name"
        raise ClusterMissing(text, hint=hint)
    return state


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole: after a crash it is the old or the new one, and after an error no draft is left."""
    fresh = _draft(path)
    fresh.unlink(missing_ok=True)  # what a crash left may be anybody's to read
    try:
        with open(fresh, "xb", opener=private) as file:
            file.write(data)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def _draft(path: Path) -> Path:
    """Where a file is written before it replaces `path`."""
    return path.with_suffix(path.suffix + ".new")
