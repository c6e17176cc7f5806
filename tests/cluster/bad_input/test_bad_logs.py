"""Data directories that a power cut, a bad disk or a wrong hand has changed.

What a crash can leave is mended without a word lost; what only damage explains stops the node, which says
where it is and how to get the data back. A log torn at every single byte stands in tests/unit/cluster.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redwire import connect_sync
from redwire.errors import NotConfirmed, UnknownOutcome

pytestmark = pytest.mark.slow

DOCUMENTS = 200
MEND = "keep this directory for inspection, give the node an empty one and let it join again"


def segment(shop: Any, node: str) -> Path:
    """The file that the node's log is in."""
    (path,) = (shop.data_dir(node) / "wal").glob("*/*.log")
    return path


def flip(path: Path, offset: int) -> None:
    """Change one bit."""
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes((byte ^ 0x10,)))


def test_a_write_that_was_torn_anywhere_is_cut_and_nothing_acknowledged_goes_with_it(
    fleet: Any, tmp_path: Path
) -> None:
    shop = fleet("eu-1", faults=True)
    acked = {f"{n:02d}": shop.db.put("c", f"{n:02d}", {"n": n}).version for n in range(20)}
    path, folder, kept = segment(shop, "eu-1"), shop.data_dir("eu-1"), tmp_path / "kept"
    # The mark that follows within a second of silence: the write would wait behind it, where that hangs.
    shop.until(
        lambda: (data := path.read_bytes()).rindex(b"RWM1") > data.rindex(b"RWB1"), "the log is at rest"
    )
    shop.disk("eu-1", "sync /wal/ hang")
    with connect_sync(shop.uri("eu-1", discovery="off")) as db, pytest.raises((NotConfirmed, UnknownOutcome)):
        db.put("c", "torn", {"body": "x" * 300}, timeout_s=3)
    shop.until(lambda: b"torn" in path.read_bytes(), "the write is in the file, and was not synced")
    shop.kill("eu-1")
    shop.disk("eu-1")
    whole = path.read_bytes()
    document = whole.rindex(b"torn")
    mark, batch = whole.rindex(b"RWM1", 0, document), whole.rindex(b"RWB1", 0, document)
    end = len(whole.rstrip(b"\0"))
    assert mark < batch < document < end
    shutil.copytree(folder, kept)
    for torn in (mark + 7, batch + 30, end - 1):
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        path.write_bytes(whole[:torn] + bytes(len(whole) - torn))
        since = shop.mark("eu-1")
        shop.lead("eu-1")
        said = rf"cut \d+ bytes of an interrupted write from LSN {max(acked.values()) + 1} on"
        assert re.search(said, shop.said("eu-1", since))
        held = {ident: version for ident, (version, _) in shop.documents("eu-1", "c").items()}
        assert held == acked
        assert shop.db.put("c", "after", {}, timeout_s=30).version > max(acked.values())
        shop.kill("eu-1")


@pytest.fixture(scope="module")
def shop(module_fleet: Any) -> Any:
    """Two nodes with the same documents; each test leaves them so."""
    shop = module_fleet("eu-1", "us-1", policy="local")
    shop.fill("c", DOCUMENTS)
    for n in range(20):
        shop.db.put("c", f"{n}", {"n": n})
    shop.converge()
    return shop


def run(shop: Any) -> None:
    """us-1 runs, and has everything."""
    if shop.processes["us-1"].poll() is not None:
        shop.start_node("us-1")
    shop.converge()


def rest(shop: Any) -> None:
    """us-1 does not run, and ended well if it did."""
    if shop.processes["us-1"].poll() is None:
        assert shop.terminate("us-1") == 0


def refuses(shop: Any, node: str) -> str:
    """Start a node that must not serve; what it says."""
    since = shop.mark(node)
    shop.start_node(node)
    assert shop.ends(node) == 1
    said: str = shop.said(node, since)
    assert "listens on" not in said and "Traceback" not in said
    return said


def test_a_follower_with_a_flipped_bit_in_its_log_refuses_to_serve_and_comes_back_from_a_peer(
    shop: Any,
) -> None:
    run(shop)
    rest(shop)
    path = segment(shop, "us-1")
    batches = [match.start() for match in re.finditer(b"RWB1", path.read_bytes())]
    middle = batches[len(batches) // 2]
    flip(path, middle + 90)
    damaged = path.read_bytes()
    said = refuses(shop, "us-1")
    assert re.search(rf"{re.escape(str(path))} is damaged at byte {middle} \(LSN \d+\)", said)
    assert MEND in said
    assert path.read_bytes() == damaged, "what is left for inspection was not touched"
    shop.db.put("c", "meanwhile", {})
    shop.wipe("us-1")
    since = shop.mark("eu-1")
    shop.start_node("us-1")
    shop.wait_log("eu-1", "us-1 is admitted", since=since)
    shop.db.put("c", "after", {})
    shop.converge()
    assert shop.documents("us-1", "c") == shop.documents("eu-1", "c")
    shop.check_same_log()


def test_a_primary_with_a_flipped_bit_in_its_log_refuses_to_serve_until_it_is_mended(shop: Any) -> None:
    run(shop)
    held = shop.documents("us-1", "c")
    assert shop.terminate("eu-1") == 0
    path = segment(shop, "eu-1")
    place = path.read_bytes().index(b"RWB1") + 90
    flip(path, place)
    said = refuses(shop, "eu-1")
    assert f"{path} is damaged at byte {place - 90} (LSN 1): " in said and MEND in said
    flip(path, place)
    shop.lead("eu-1")
    shop.converge()
    assert shop.documents("eu-1", "c") == held
    shop.check_same_log()


@contextlib.contextmanager
def stopped(shop: Any, tmp_path: Path) -> Iterator[None]:
    """us-1 does not run; afterwards its directory is as it was, and the other node never noticed."""
    rest(shop)
    folder = shop.data_dir("us-1")
    shutil.copytree(folder, tmp_path / "kept")
    written = shop.db.put("c", "0", {"n": 0}).version
    yield
    shutil.rmtree(folder)
    shutil.move(tmp_path / "kept", folder)
    assert shop.db.get("c", "0").version == written


DAMAGE: dict[str, tuple[str, Callable[[Path], int]]] = {
    "whom the node followed": ("meta.cbor", lambda path: path.read_bytes().index(b"eu-1")),
    "what says that state.db is one": ("state.db", lambda path: 3),
    "the kind of the first page of state.db": ("state.db", lambda path: 100),
}
"""A file, and the byte of it that has a bit flipped."""


@pytest.mark.parametrize(("name", "place"), DAMAGE.values(), ids=DAMAGE)
def test_a_flipped_bit_beside_the_log_stops_the_node(
    shop: Any, tmp_path: Path, name: str, place: Callable[[Path], int]
) -> None:
    with stopped(shop, tmp_path):
        path = shop.data_dir("us-1") / name
        flip(path, place(path))
        damaged = path.read_bytes()
        said = refuses(shop, "us-1")
        assert f"{path} is damaged: " in said and MEND in said
        assert path.read_bytes() == damaged


def test_a_state_that_is_ahead_of_its_log_stops_the_node(shop: Any, tmp_path: Path) -> None:
    with stopped(shop, tmp_path):
        path = segment(shop, "us-1")
        path.unlink()
        said = refuses(shop, "us-1")
        assert "state holds LSN" in said and str(path.parent) in said and MEND in said


@pytest.mark.parametrize("of", ["nobody", "another node"])
def test_a_file_that_is_called_like_a_segment_and_is_none_of_ours_stops_the_node(
    shop: Any, tmp_path: Path, of: str
) -> None:
    with stopped(shop, tmp_path):
        path = segment(shop, "us-1").with_name(f"{7:020d}-{9_999:020d}.log")
        path.write_bytes(b"" if of == "nobody" else segment(shop, "eu-1").read_bytes())
        said = refuses(shop, "us-1")
        assert f"{path} is damaged at byte 0" in said and MEND in said
        assert ("no segment header" if of == "nobody" else "belongs to another log") in said
        assert path.exists()


def test_other_files_in_the_log_folder_are_left_alone(shop: Any) -> None:
    rest(shop)
    own = segment(shop, "us-1")
    others = [own.with_name(name) for name in ("notes.txt", ".own.log.swp", "1-1.log", f"{own.name}.bak")]
    for path in others:
        path.write_bytes(b"" if path.suffix == ".bak" else b"RWS1, but not really")
    folder = own.parents[1] / "lost+found"
    folder.mkdir()
    run(shop)
    assert folder.is_dir() and all(path.exists() for path in others)
    assert shop.documents("us-1", "c") == shop.documents("eu-1", "c")
    for path in others:
        path.unlink()
    folder.rmdir()
