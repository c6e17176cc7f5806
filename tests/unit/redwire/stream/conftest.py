"""What the tests of channels share: both event loops, and connections with and without TLS."""

from __future__ import annotations

from typing import Any

import pytest

from redwire.tls import client_context, server_context
from tests.channels import NODE, Contexts


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both event loops that a node may run on: their transports differ in what they do when."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def tls_contexts(authority: Any) -> Contexts:
    """The server's and the client's context, of two nodes."""
    one = authority.sign("one", NODE)
    return (
        server_context(authority.ca, one.cert, one.key),
        client_context(authority.ca, one.cert, one.key, peer=True),
    )


@pytest.fixture(params=["tcp", "tls"])
def contexts(request: pytest.FixtureRequest, tls_contexts: Contexts) -> Contexts:
    """The same for a connection without and with TLS."""
    return (None, None) if request.param == "tcp" else tls_contexts
