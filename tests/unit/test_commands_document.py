"""docs/COMMANDS.md has a part for every verb, and the fields of those that no test runs on its cluster."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import msgspec
import pytest

from redwire.status import Event, Status
from tests.command_fields import COMMANDS, SECTIONS, is_a, verbs
from tools.bench import report
from tools.bench.figures import Conditions, Figure, Findings, Load, Row, Stages, Wire
from tools.demo.report import Report
from tools.doctor.finding import Check
from tools.verdict import ANSWERS

ROOT = Path(__file__).parents[2]


def test_every_verb_that_takes_json_has_a_part_and_there_is_no_other() -> None:
    assert sorted(SECTIONS) == sorted(verbs())


def test_every_part_has_a_table_or_says_where_its_fields_are() -> None:
    assert [verb for verb, section in SECTIONS.items() if not section.fields] == []


def test_a_field_that_is_not_documented_or_of_another_type_is_noticed() -> None:
    section = SECTIONS["dev logs"]
    section.check({"node": "eu-1", "file": "f", "lines": ["a"]})
    for wrong in ({"more": 1}, {"more": {"a": 1}}, {"more": []}, {"node": 1}, {"node": None}, {"lines": [1]}):
        with pytest.raises(AssertionError):
            section.check(wrong)
    assert not is_a(True, "number") and not is_a("1", "number") and is_a(1, "number")


def test_the_fields_of_a_bench_are_documented() -> None:
    under = Conditions("local", "on", "TLS 1.3", "ext4", "x")
    full = Row(
        "a", Load("one", 1), under, 1.0, 1, 0, 1.0, 1.0, 1.0, 1.0, 1.0, Wire(1.0, 1.0), Stages(1, 1, 1)
    )
    rows, figures = (full, Row("b", Load("one", 1), under)), (Figure("f", 1.0, "ms"), Figure("g", None, "ms"))
    section = SECTIONS["bench"]
    section.check(json.loads(json.dumps(report.document(Findings({"kernel": "x"}, rows, figures)))))
    assert section.seen == set(section.fields)
    assert f"| `schema` | number | version of this schema, {report.SCHEMA} |" in COMMANDS


def test_the_fields_of_a_demo_are_documented_and_so_are_the_facts_of_its_scenes() -> None:
    shown = Report(quiet=True)
    with shown.scene("one"):
        shown.check("the sun rises", True)
    section = SECTIONS["demo"]
    section.check(shown.document())
    facts = {name for name in section.fields if name.startswith("facts.")}
    assert section.seen == set(section.fields) - facts
    trees = [ast.parse(path.read_text()) for path in (ROOT / "tools" / "demo").glob("*.py")]
    told = {name for tree in trees for name in facts_of(tree)}
    assert told == {re.split(r"[.\[]", name)[1] for name in facts}


def facts_of(tree: ast.Module) -> set[str]:
    """The names under which the scenes of a module tell something."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.AugAssign(target=ast.Attribute(attr="facts"), value=ast.Dict(keys=keys)):
                found |= {key.value for key in keys if isinstance(key, ast.Constant)}
            case ast.Assign(
                targets=[ast.Subscript(value=ast.Attribute(attr="facts"), slice=ast.Constant(value))]
            ):
                found.add(value)
    return found


def test_the_words_of_a_field_are_those_of_the_code() -> None:
    checks = COMMANDS[COMMANDS.index("Checks are") : COMMANDS.index("### `redwire topology`")]
    assert re.findall(r"`(\w+)`", checks) == [*Check]
    better = re.search(r"`differences\[\]\.better` \| texts \| of ([^|]+) those", COMMANDS)
    assert better is not None and tuple(re.findall(r"`(\w+)`", better[1])) == ANSWERS


def test_the_views_of_the_status_document_name_its_fields() -> None:
    lag = COMMANDS[COMMANDS.index("### `redwire lag`") : COMMANDS.index("### `redwire events`")]
    named = set(re.findall(r"`(\w+)`", lag)) - {"nodes"}
    assert named - set(Status.__struct_fields__) == {"id", "region", "role", "lag"}
    assert set(SECTIONS["events"].fields) == set(Event.__struct_fields__)


def test_its_examples_are_json() -> None:
    found = re.findall(r"^```json\n(.*?)^```$", COMMANDS, re.MULTILINE | re.DOTALL)
    assert len(found) > 6
    for text in found:
        msgspec.json.decode(text)
