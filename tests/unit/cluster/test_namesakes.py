"""Whose the packages are that are called like ours."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cluster.namesakes import OURS, namesakes


def install(site: Path, name: str, text: str) -> None:
    """Put down what an installer writes, at `name` below `site`."""
    path = site / name
    path.parent.mkdir()
    path.write_text(text)


def told(*folders: Path, ours: Path = OURS) -> list[str]:
    return [error.message for error in namesakes(map(str, folders), ours)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("geo_regions-1.0.dist-info/RECORD", "geo/__init__.py,,\nregions/__init__.py,sha256=x,1\n"),
        ("geo_regions-1.0.dist-info/top_level.txt", "geo\nregions\n"),
        ("geo_regions-1.0.egg-info/top_level.txt", "regions"),
        ("geo_regions.egg-info/top_level.txt", "regions\n"),
    ],
)
def test_a_package_of_our_name_is_told_with_whose_it_is(tmp_path: Path, name: str, text: str) -> None:
    install(tmp_path, name, text)
    assert told(tmp_path) == ["the package regions comes from geo-regions, not from redwire-cluster"]


def test_ours_alone_and_names_that_only_begin_like_ours_are_nothing_to_tell(tmp_path: Path) -> None:
    install(tmp_path, "redwire_cluster-0.1.0.dist-info/RECORD", "cluster/node.py,,\ntools/__init__.py,,\n")
    install(tmp_path, "a-1.dist-info/RECORD", "clusters/a.py,,\ntools.py,,\na/regions/b.py,,\n../tools/x,,\n")
    assert told(tmp_path, tmp_path / "nothing", tmp_path / "a-1.dist-info" / "RECORD") == []


def test_each_is_told_once_wherever_it_stands(tmp_path: Path) -> None:
    install(tmp_path, "b-1.dist-info/RECORD", "tools/a.py,,\ntools/b.py,,\nredwire/c.py,,\n")
    (tmp_path / "b-1.dist-info" / "top_level.txt").write_text("redwire\ntools\n")
    assert [text.split(",")[0] for text in told(tmp_path, tmp_path)] == [
        "the package tools comes from b",
        "the package redwire comes from b",
    ]


def test_what_comes_behind_ours_is_never_imported_and_what_comes_before_is(tmp_path: Path) -> None:
    before, site, behind = (tmp_path / name for name in ("before", "site", "behind"))
    for folder, name in ((before, "early"), (site, "redwire_cluster"), (behind, "late")):
        folder.mkdir()
        install(folder, f"{name}-1.dist-info/RECORD", "tools/__init__.py,,\n")
    link = tmp_path / "link"
    link.symlink_to(site)
    assert told(site, behind, ours=site) == told(link, behind, ours=site) == []
    (text,) = told(before, site, behind, ours=site)
    assert text.startswith("the package tools comes from early,")


def test_what_pip_moved_out_of_its_way_and_left_is_not_imported(tmp_path: Path) -> None:
    install(tmp_path, "~edwire_cluster-0.1.0.dist-info/RECORD", "cluster/node.py,,\n")
    assert told(tmp_path) == []


def test_a_folder_that_may_not_be_looked_into_has_nothing_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, site = tmp_path / "closed", tmp_path / "site"
    site.mkdir()
    install(site, "early-1.dist-info/RECORD", "tools/__init__.py,,\n")
    look = Path.stat

    def stat(path: Path, **how: bool) -> os.stat_result:
        if path == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    assert len(told(closed, site)) == 1
