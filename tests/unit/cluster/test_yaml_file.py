"""YAML files: plain data, and errors that name the line."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Timer

import pytest

from cluster.yaml_file import FILE_BYTES_MAX, load_yaml
from redwire.errors import ConfigInvalid


def write(folder: Path, text: str | bytes) -> str:
    path = folder / "node.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_a_file_becomes_plain_data(tmp_path: Path) -> None:
    text = "a: {b: [1, off, 'x']}\n# nothing\nc:\n"
    assert load_yaml(write(tmp_path, text)) == {"a": {"b": [1, False, "x"]}, "c": None}


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    assert load_yaml(write(tmp_path, "")) is None


def test_a_pipe_that_somebody_writes_is_read_and_one_that_nobody_does_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    os.mkfifo(path)
    assert load_yaml(str(path)) is None
    reader, writer = os.pipe()
    slow = Timer(0.05, lambda: (os.write(writer, b"a: 1\n"), os.close(writer)))
    slow.start()
    assert load_yaml(f"/dev/fd/{reader}") == {"a": 1}
    slow.join()
    os.close(reader)


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "line 5, column 3", "'c' is given twice, first on line 3"),
        ("a: 1\nb: [1, 2\n", "line 3, column 1", "expected"),
        ("a: &x [1]\nb: *x\n", "line 2, column 4", "anchors and aliases"),
        ("a: !!python/object:os.system {}\n", "line 1, column 4", "could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1", "but found another document"),
        ("? [1]\n: 2\n", "line 1, column 3", "unhashable"),
        ("a:\n  b: 2025-02-30\n", "line 2, column 6", "no timestamp that can be read"),
        ("a: !!float x\n", "line 1, column 4", "no float that can be read"),
        ("a: !!bool x\n", "line 1, column 4", "no bool that can be read"),
        (f"a: 0x{'f' * 5_000}\n", "line 1, column 4", "no int that can be read"),
        ('a: "\\ud800"\n', "line 1, column 4", "no str that can be read"),
        ("[" * 5_000, "", "nested too deeply"),
        (b"a: \xff\xfe", "", "is no YAML"),
        ("a: \x07", "", "is no YAML"),
    ],
)  # fmt: skip
def test_an_error_names_the_line(tmp_path: Path, text: str | bytes, where: str, message: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_yaml(write(tmp_path, text))
    assert caught.value.path == where
    assert message in str(caught.value)


def test_the_same_key_in_two_mappings_is_fine(tmp_path: Path) -> None:
    assert load_yaml(write(tmp_path, "- {id: 1}\n- {id: 2}\n")) == [{"id": 1}, {"id": 2}]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"gone\.yaml: cannot be read: No such file"):
        load_yaml(str(tmp_path / "gone.yaml"))


def test_a_file_that_is_far_too_large_is_not_parsed(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="is this the right file"):
        load_yaml(write(tmp_path, b"#" * (FILE_BYTES_MAX + 1)))
