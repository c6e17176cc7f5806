"""A cluster for RedDB's drivers, and drivers of every family for its tests."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from redwire.message.admin import PutToken
from tests.cluster.drivers.driver import Broken, Credentials, EngineError, Line, Refused
from tests.cluster.drivers.families import FAMILIES
from tests.cluster.drivers.values import params, text

PASSWORD = "correct horse, battery & staple"


@dataclass
class Shop:
    """A primary and a replica. Users `app` and `v` may write, `reader` may not; strangers may write at the
    primary, and are not let in at the replica.
    """

    fleet: Any
    tokens: dict[str, str] = field(default_factory=dict)
    primary: str = "eu-1"
    PASSWORD: ClassVar[str] = PASSWORD
    Refused: ClassVar[type[Exception]] = Refused
    EngineError: ClassVar[type[Exception]] = EngineError
    Broken: ClassVar[type[Exception]] = Broken
    text: ClassVar[Callable[[str], bytes]] = staticmethod(text)
    params: ClassVar[Callable[..., bytes]] = staticmethod(params)

    @property
    def ca(self) -> Path:
        return Path(self.fleet.folder) / "ca.pem"

    def address(self, node: str) -> tuple[str, int]:
        return "127.0.0.1", self.fleet.ports[node]

    def connect(
        self,
        family: str,
        *,
        node: str = "eu-1",
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
    ) -> Any:
        """A driver of this family: with a password, with a token, or as a stranger."""
        credentials = Credentials(user, password, token)
        return FAMILIES[family](self.address(node), self.ca, credentials)

    def dial(self, family: str) -> Any:
        """Only TLS, as this family does it; nothing is said."""
        return Line(self.address(self.primary), self.ca, FAMILIES[family])

    def log_in(self, family: str, *, node: str = "eu-1", user: str = "app") -> Any:
        """A driver of this family as `user`: by password where it can, else by token."""
        if FAMILIES[family].speaks_scram:
            return self.connect(family, node=node, user=user, password=PASSWORD)
        return self.connect(family, node=node, token=self.tokens[user])

    def level(self) -> None:
        """Wait until the replica has applied what the primary has."""
        self.fleet.converge()


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Iterator[Shop]:
    fleet = module_fleet("eu-1", "us-1", start=False)
    for node, strangers in (("eu-1", "write"), ("us-1", "off")):
        path = fleet.config_path(node)
        document = yaml.safe_load(path.read_text()) | {"auth": {"anonymous": strangers}}
        path.write_text(yaml.safe_dump(document, sort_keys=False))
    fleet.start()
    fleet.wait_ready()
    shop = Shop(fleet)
    for user, role in (("app", "write"), ("v", "write"), ("reader", "read")):
        fleet.add_user(user, PASSWORD, role, topology_read=False)
        shop.tokens[user] = secrets.token_urlsafe(32)
        digest = hashlib.sha256(shop.tokens[user].encode()).digest()
        fleet.db.admin.change_account(PutToken(id=f"{user}-1", user=user, role=role, sha256=digest))
    shop.level()
    yield shop
