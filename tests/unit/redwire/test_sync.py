"""The blocking client: the same calls from a thread without an event loop."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing

import anyio.to_thread
import pytest

import redwire
from redwire import errors
from redwire.admin import Admin
from redwire.handshake import Role
from redwire.sync import SyncAdmin


async def in_thread(function, *arguments) -> object:
    return await anyio.to_thread.run_sync(function, *arguments)


async def test_every_call_of_the_client_has_its_blocking_twin(cluster) -> None:
    def use(uri: str) -> None:
        with redwire.connect_sync(uri) as db:
            written = db.put("products", "p1", {"a": 1})
            assert db.insert("products", {"a": 2}).id == "2"
            assert len(db.insert_many("products", [{}, {}]).records) == 2
            assert db.get("products", "p1", at_least=written.receipt.token).value == {"a": 1}
            assert [document.id for document in db.scan("products", limit=2)] == ["2", "3"]
            assert db.delete("products", "p1").deleted
            assert db.status().own.id == "eu-1"
            assert db.admin.role is Role.WRITE
            assert db.topology().primary.addr == db.routing.primary
            assert db.cluster == "ab" * 16
            with pytest.raises(errors.Conflict):
                db.insert("products", {}, "2")
            shown = repr(db)
        assert "SyncClient" in shown
        with pytest.raises(errors.ChannelClosed):
            db.put("products", "p1", {})

    await in_thread(use, cluster.uri())


async def test_rows_come_from_the_thread_that_calls_and_may_be_read_by_the_same_client(cluster) -> None:
    def use(uri: str) -> None:
        with redwire.connect_sync(uri) as db:
            db.insert_many("products", [("a", {}), ("b", {})])
            threads = []

            def rows() -> Iterator[tuple[str, redwire.Json]]:
                for document in db.scan("products"):
                    threads.append(threading.current_thread())
                    yield f"copy-{document.id}", document.raw

            copied = db.insert_many("products", rows())
            assert [record.id for record in copied.records] == ["copy-a", "copy-b"]
            assert threads == [threading.current_thread()] * 2
            with pytest.raises(errors.RequestInvalid, match="rows is None"):
                db.insert_many("products", None)

    await in_thread(use, cluster.uri())


def test_of_rows_that_can_be_gone_through_once_a_client_that_is_not_open_takes_none() -> None:
    rows = iter([("a", {}), ("b", {})])
    with pytest.raises(errors.ChannelClosed, match="the client is not open"):
        redwire.connect_sync("red://localhost").insert_many("products", rows)
    assert next(rows) == ("a", {})


async def test_a_client_that_is_open_is_not_opened_again_and_stays_open(cluster) -> None:
    def use(uri: str) -> None:
        with redwire.connect_sync(uri) as db:
            with pytest.raises(errors.RequestInvalid, match="is open already"):
                db.__enter__()
            assert db.put("products", "p1", {}).version == 1

    await in_thread(use, cluster.uri())


async def test_a_client_is_opened_again_after_it_was_closed_and_after_it_could_not_be(cluster) -> None:
    def use(uri: str, nobody: str) -> None:
        client = redwire.connect_sync(uri)
        for version in (1, 2):
            with client as db:
                assert db.put("products", "p1", {}).version == version
        client.__exit__(None, None, None)
        lonely = redwire.connect_sync(nobody)
        for _ in range(2):
            with pytest.raises(errors.DeadlineExceeded), lonely:
                pass

    await in_thread(use, cluster.uri(), "red://127.0.0.1:1/?timeout_ms=100")


async def test_what_is_known_of_the_nodes_is_read_where_it_changes(cluster, monkeypatch) -> None:
    routing, readers = redwire.Client.routing, set[str]()

    def note(client: redwire.Client) -> redwire.RouterStatus:
        readers.add(threading.current_thread().name)
        return routing.fget(client)

    monkeypatch.setattr(redwire.Client, "routing", property(note))

    def use(uri: str) -> None:
        with redwire.connect_sync(uri) as db:
            assert db.routing.primary == db.topology().primary.addr

    await in_thread(use, cluster.uri())
    assert readers == {"redwire"}


async def test_a_scan_that_is_closed_early_leaves_the_client_as_it_is(cluster) -> None:
    def use(uri: str) -> None:
        with redwire.connect_sync(uri) as db:
            db.insert_many("products", [("a", {}), ("b", {})])
            with closing(db.scan("products")) as documents:
                assert next(documents).id == "a"
            assert [document.id for document in db.scan("products")] == ["a", "b"]

    await in_thread(use, cluster.uri())


async def test_not_confirmed_is_resolved_by_its_key(cluster, scripts) -> None:
    cluster.leader.script.append(scripts.unconfirmed)

    def use(uri: str) -> None:
        with redwire.connect_sync(uri) as db:
            with pytest.raises(errors.NotConfirmed) as unsure:
                db.put("products", "p1", {})
            assert db.resolve(unsure.value.key).version == 1

    await in_thread(use, cluster.uri())


async def test_an_error_while_connecting_or_in_the_body_comes_out_as_it_is(cluster) -> None:
    def use(uri: str, wrong: str) -> None:
        with pytest.raises(errors.AuthenticationFailed), redwire.connect_sync(wrong):
            pass
        with pytest.raises(ValueError, match="mine"), redwire.connect_sync(uri):
            raise ValueError("mine")

    await in_thread(use, cluster.uri(), cluster.uri(user="app:wrong@"))


async def test_a_forked_child_is_told_to_open_a_client_of_its_own(cluster) -> None:
    def use(uri: str) -> None:
        with redwire.connect_sync(uri) as db:
            with pytest.raises(errors.ChannelClosed, match="before this one was forked.*; open one in each"):
                in_child(lambda: db.put("products", "p1", {}))
            in_child(lambda: db.__exit__(None, None, None))
            assert db.put("products", "p1", {}).id == "p1", "and the parent's goes on"

    await in_thread(use, cluster.uri())


def in_child(do: Callable[[], object]) -> None:
    """Do it in a forked child. Raises `ChannelClosed`, with the words, where the child did."""
    ours, theirs = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # there are threads, and this is about them
        child = os.fork()
    if not child:
        try:
            do()
        except errors.ChannelClosed as error:
            os.write(theirs, str(error).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as told:
        words = told.read()
    os.waitpid(child, 0)
    if words:
        raise errors.ChannelClosed(words)


def test_the_methods_are_those_of_the_client() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(redwire.Client) - public(redwire.SyncClient) == {"submit", "submit_put"}
    assert public(redwire.SyncClient) <= public(redwire.Client)
    assert public(SyncAdmin) == public(Admin)
