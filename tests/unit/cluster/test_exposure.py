"""Data directories that other users may get into."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.exposure import exposed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As a node leaves it."""
    made = tmp_path / "data"
    (made / "wal" / "1").mkdir(parents=True)
    for part in (made, made / "wal", made / "wal" / "1"):
        part.chmod(0o700)
    for name in ("lock", "meta.cbor", "state-1.db", "state-1.db-wal", "wal/1/00000001.seg", "audit.log"):
        (made / name).touch(0o600)
    return made


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750])
def test_what_a_node_makes_is_for_its_user_alone_also_in_a_folder_that_others_may_enter(folder, mode) -> None:
    folder.chmod(mode)
    assert list(exposed(folder)) == []


def test_a_folder_that_is_not_there_yet_is_not_exposed(tmp_path: Path) -> None:
    assert list(exposed(tmp_path / "none")) == []


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_in_which_others_may_change_names_is_told_with_its_mode(folder, mode) -> None:
    folder.chmod(mode)
    (warning,) = exposed(folder)
    assert str(warning) == f"{folder} may be changed by other users (mode 0{mode:o}); chmod go-rwx {folder}"


@pytest.mark.parametrize(
    ("names", "more"),
    [(["meta.cbor"], ""), (["state-1.db", "wal/1/00000001.seg"], ", and at 1 more files there")],
)
def test_files_that_others_may_read_are_told_where_they_can_be_reached(folder, names, more) -> None:
    for name in names:
        (folder / name).chmod(0o644)
    assert list(exposed(folder)) == []  # nobody else may enter
    folder.chmod(0o755)
    (warning,) = exposed(folder)
    assert warning.what.startswith(
        f"other users may get at {folder / names[0]} (mode 0644){more}: they hold documents"
    )
    assert warning.mend == f"chmod -R go-rwx {folder}"


def test_the_audit_log_may_be_read_by_whom_the_operator_lets(folder) -> None:
    folder.chmod(0o755)
    (folder / "audit.log").chmod(0o640)
    assert list(exposed(folder)) == []
