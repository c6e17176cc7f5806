"""A file that describes a cluster: a node's whole configuration, or its `cluster:` section by itself."""

from __future__ import annotations

import msgspec

from cluster import schema
from cluster.cluster_config import ClusterConfig, parse_cluster_config
from cluster.config import parse_node_config
from cluster.yaml_file import load_yaml
from redwire.errors import ConfigInvalid
from regions.commit_time import Distances
from tools.errors import RttInvalid
from tools.rtt import parse_distances


class _File(msgspec.Struct, frozen=True, kw_only=True):
    cluster: ClusterConfig
    rtt: dict[str, str] = {}


def load_cluster(file: str) -> tuple[ClusterConfig, Distances]:
    """The cluster that the YAML file `file` describes, and the round trips between its regions.

    A file with a `node:` section is read like a node's, which has no round trips. Any other has `cluster:`
    and, if it likes, `rtt: {eu-us: 80ms}`. Raises `ConfigInvalid`.
    """
    data = load_yaml(file)
    if isinstance(data, dict) and "node" in data:
        return parse_node_config(data, file).cluster, Distances()
    read = schema.read(_File, data, file)
    assert isinstance(data, dict)
    cluster = parse_cluster_config(data["cluster"], file)
    regions = {member.region for member in cluster.members}
    try:
        return cluster, parse_distances(read.rtt.items(), regions)
    except RttInvalid as error:
        raise ConfigInvalid(file, "rtt", error.message, hint=error.hint) from error
