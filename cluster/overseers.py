"""Who looks after a node from outside: the service manager that started it, and whoever scrapes or probes it.

Where nobody looks, nothing runs and nothing is imported.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio

from cluster.address import Address
from cluster.auth import Authenticator
from cluster.config import NodeConfig
from cluster.credentials import NodeCredentials
from cluster.listening import listen
from cluster.log_config import Log
from cluster.metrics_config import MetricsTls
from cluster.pulse import Pulse
from cluster.service import Service
from cluster.service_manager import ServiceManager


class Overseers:
    """To be entered before the node is told ready, which takes the metrics port, and run beside it."""

    def __init__(
        self,
        config: NodeConfig,
        service: Service,
        authenticator: Authenticator,
        credentials: NodeCredentials | None,
        log: Log,
        environment: Mapping[str, str],
    ) -> None:
        """`credentials` is None where TLS is off; `environment` is the process's."""
        storage = service.node.storage
        self._config = config.metrics
        self._service = service
        self._authenticator = authenticator
        self._credentials = credentials
        self._log = log
        self._manager = ServiceManager(environment, log)
        self._pulse = Pulse(storage.journal.disk, storage.data_dir, service.node.clock, log)
        self._open = AsyncExitStack()
        self._serve: Callable[[], Coroutine[Any, Any, None]] | None = None

    async def __aenter__(self) -> Self:
        """Take the metrics port, if there is to be one. Raises `ListenFailed`."""
        if self._config.listen is not None:
            self._serve = await self._listen(self._config.listen)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.stopping()
        self._manager.close()
        await self._open.aclose()

    async def run(self) -> None:
        """Say that the node is ready, and let it be looked at until it ends."""
        async with anyio.create_task_group() as tasks:
            if self._serve is not None or self._manager.watches:
                tasks.start_soon(self._pulse.run)
            if self._serve is not None:
                tasks.start_soon(self._serve)
            self._manager.ready()
            if self._manager.watches:
                tasks.start_soon(self._manager.watchdog, lambda: self._pulse.status().alive)

    async def reload(self, reload: Callable[[], Awaitable[None]]) -> None:
        """Reload, and let the service manager know when that began and is over."""
        self._manager.reloading()
        await reload()
        self._manager.ready()

    async def _listen(self, address: Address) -> Callable[[], Coroutine[Any, Any, None]]:
        """Take the port; what serves it."""
        from cluster.probes import Probes
        from cluster.views import NodeViews

        listener = await self._open.enter_async_context(await listen(address, "metrics.listen"))
        if self._config.tls is not MetricsTls.ON:
            views = NodeViews(self._service, self._pulse, self._log, None)
            return partial(Probes(views, lambda: None).serve, listener)
        assert self._credentials is not None, "the configuration was checked"
        views = NodeViews(self._service, self._pulse, self._log, self._authenticator)
        return partial(Probes(views, self._credentials.server_context).serve, listener)
