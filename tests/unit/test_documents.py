"""README and docs/ say what is there: commands, files, modules, kinds, limits and codes."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path
from typing import get_args

import click
import msgspec
import pytest
import yaml
from click.testing import CliRunner

from cluster.audit_events import LINES_A_SECOND, TEXT_CHARS_MAX, Actor, ActOutcome, Event
from cluster.config import TlsConfig, parse_node_config
from cluster.config import _File as File
from cluster.events import EventKind, level
from cluster.main import _answer as answer_of_node_command
from redwire.errors import RETRYABLE, Code, RedwireError
from redwire.frame import SERVER_ONLY, Kind
from redwire.message.client import CopyAck
from redwire.message.log import ADMINS_MAX, MEMBERS_MAX
from redwire.position import ClusterId, Lsn, Term, Token
from redwire.receipt import Receipt
from redwire.status import SCHEMA, Status
from redwire.uri import PARAMETERS
from regions.commit_policy import CommitPolicy
from tools.cli.failure import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_PIPE_CLOSED,
    EXIT_REFUSED,
    EXIT_UNKNOWN,
    EXIT_UNSENT,
    EXIT_USAGE,
)
from tools.cli.main import redwire

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ERRORS = (ROOT / "docs" / "ERRORS.md").read_text()
PROTOCOL = (ROOT / "docs" / "PROTOCOL.md").read_text()
OPERATIONS = (ROOT / "docs" / "OPERATIONS.md").read_text()
RUNBOOKS = OPERATIONS[: OPERATIONS.index("## The status document")]
ARCHITECTURE = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
CONFIGURATION = (ROOT / "docs" / "CONFIGURATION.md").read_text()
KEYS = CONFIGURATION[: CONFIGURATION.index("## The log")]
PURE = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["run"]["include"]


def blocks(language: str, document: str = README) -> list[str]:
    """A document's code blocks of one language, "" for shell."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    return [text for name, text in fenced if name == language]


def command_lines() -> Iterator[list[str]]:
    for block in blocks("") + blocks("", CONFIGURATION):
        for line in block.splitlines():
            if line:
                yield shlex.split(line, comments=True)
    for line in re.findall(r"`((?:redwire|make) [^`]+)`", README + RUNBOOKS):
        yield shlex.split(line)


COMMANDS = [words for words in command_lines() if words[0] in ("redwire", "make", "redwire-node")]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_in_the_readme_can_be_typed(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *arguments = words
    monkeypatch.chdir(tmp_path)
    for name in arguments:
        if name.endswith(".ndjson"):
            (tmp_path / name).touch()
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "redwire":
        command: click.Command | None = redwire
        while isinstance(command, click.Group):
            command = command.get_command(click.Context(command), arguments.pop(0))
        assert command is not None
        command.make_context(words[1], arguments, default_map={"uri": "reds://host"})
    else:
        *action, option, file = [each for each in arguments if each != "--take-over"]
        assert action in ([], ["check"], ["reload"]) and option == "--config"
        assert file in ("node.yaml", "us-1.yaml")


def test_what_the_readme_shows_of_a_policy_is_what_the_command_prints() -> None:
    shown = re.findall(r"^```\n(redwire policy .*)\n```\n\n```text\n(.*?)^```$", README, re.M | re.S)
    ((line, printed),) = shown
    assert CliRunner().invoke(redwire, shlex.split(line)[1:]).output == printed


def test_the_readme_has_python_that_compiles() -> None:
    found = blocks("python")
    assert found
    for block in found:
        compile(block, "README.md", "exec")


@pytest.mark.parametrize("package", ["redwire", "regions", "cluster"])
def test_the_types_of_a_package_for_others_are_seen_by_checkers(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_the_readmes_node_configuration_is_in_order() -> None:
    (text,) = blocks("yaml")
    config = parse_node_config(yaml.safe_load(text), "node.yaml")
    assert str(config.cluster.default_policy) == "regions(eu,us)"


def test_the_readmes_policies_are_policies() -> None:
    table = README[README.index("| policy |") :]
    table = table[: table.index("\n\n")]
    texts = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert len(texts) == 7
    for text in texts:
        CommitPolicy.parse(text.replace("=N", "=1"))


def first_column(heading: str) -> list[str]:
    """What stands in the first cells of the README's table that begins with `heading`."""
    table = README[README.index(heading) :]
    return re.findall(r"^\| ([^|]+?) \|", table[: table.index("\n\n")], re.MULTILINE)[1:]


def test_the_readme_has_every_parameter_of_a_uri() -> None:
    named = re.findall(r"`(\w+)`", " ".join(first_column("| parameter |")))
    assert sorted(named) == sorted(PARAMETERS)


def test_the_readme_has_every_exit_code() -> None:
    codes = [int(code) for code in first_column("| exit code |")]
    assert codes == [
        0,
        EXIT_FAILED,
        EXIT_USAGE,
        EXIT_UNKNOWN,
        EXIT_REFUSED,
        EXIT_UNSENT,
        EXIT_INTERRUPTED,
        EXIT_PIPE_CLOSED,
    ]


@pytest.mark.parametrize(
    "document",
    [
        *("README.md", "docs/ARCHITECTURE.md", "docs/CONFIGURATION.md", "docs/OPERATIONS.md"),
        *("docs/ERRORS.md", "docs/METRICS.md", "docs/PROTOCOL.md"),
    ],
)
def test_a_file_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text()
    folder = (ROOT / document).parent
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (folder / link).exists(), link
    for name in re.findall(r"`((?:redwire|regions|cluster|tools)/[\w/]+\.py)`", text):
        assert (ROOT / name).exists(), name


def layers() -> Iterator[tuple[str, bool]]:
    """(module, whether it is listed as pure) for every word in the tables of layers."""
    section = ARCHITECTURE[ARCHITECTURE.index("## Layers") : ARCHITECTURE.index("## The path")]
    package, pure_columns = "", [True]
    for line in section.splitlines():
        if heading := re.match(r"\*\*(\w+)/\*\*", line):
            package = heading[1]
        elif line.startswith("| |"):
            pure_columns = [cell.strip() == "pure" for cell in line.split("|")[2:-1]]
        elif line.startswith("| ") and package != "tools":
            for cell, pure in zip(line.split("|")[2:-1], pure_columns, strict=True):
                for word in cell.split():
                    head, brace, rest = word.partition("{")
                    for name in rest.rstrip("}").split(",") if brace else [""]:
                        yield f"{package}/{head}{name}.py", pure


def test_the_layers_name_every_module_once_and_in_its_place() -> None:
    listed = dict(layers())
    assert len(listed) == len(list(layers()))
    there = {
        path.relative_to(ROOT).as_posix()
        for package in ("redwire", "regions", "cluster")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert listed.keys() - there == set()
    assert there - listed.keys() == set()
    pure = {name for name in there if any(fnmatch(name, pattern) for pattern in PURE)}
    assert {name for name, is_pure in listed.items() if is_pure} == pure


def test_the_layers_name_every_tool() -> None:
    listed = re.search(r"^\*\*tools/\*\*: (.+?)\n\n", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    assert listed is not None
    named = set(re.findall(r"\w+", re.sub(r"\([^)]*\)", "", listed[1])))
    there = {path.stem for path in (ROOT / "tools").iterdir() if path.is_dir() or path.suffix == ".py"}
    assert named == {name for name in there if not name.startswith("__")}


def test_the_protocol_names_every_kind_of_ours() -> None:
    rows = re.findall(r"^\| ([0-9A-F]{2}) \| (\w+) \|", PROTOCOL, re.MULTILINE)
    named = {(int(kind, 16), name.lower()) for kind, name in rows}
    ours = {(kind.value, kind.name.replace("_", "").lower()) for kind in Kind if kind >= Kind.WRITE}
    assert ours - named == set()
    assert {kind for kind, _ in named if kind >= Kind.WRITE} == {kind for kind, _ in ours}


def test_what_the_protocol_says_a_server_sends_to_clients_no_client_sends() -> None:
    ours = re.findall(r"^\| (4.|5.) \| \w+ \| (\w+) \|", PROTOCOL, re.MULTILINE)
    told = {int(kind, 16) for kind, sender in ours if sender == "server"}
    assert told == {kind for kind in SERVER_ONLY if kind >= Kind.WRITE}
    section = PROTOCOL[PROTOCOL.index("## 3. ") : PROTOCOL.index("## 4. ")]
    answers = {int(kind, 16) for kind in re.findall(r"\w+ \(([0-9A-F]{2})\)", section)}
    assert len(answers) > 3 and answers <= SERVER_ONLY


def test_the_protocol_names_every_code_and_says_which_may_pass() -> None:
    rows = re.findall(r"^\| ([A-Z_]{4,}) \| (yes)? ?\| ", PROTOCOL, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(Code)
    assert {name for name, retry in rows if retry} == RETRYABLE


def facts_of(tree: ast.Module) -> Iterator[str]:
    """The names of the facts that a module's errors are given."""
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="facts", value=value):
                yield from keys_of(value)
            case ast.AugAssign(target=target, value=value) | ast.Assign(targets=[target], value=value):
                name = ast.unparse(target)
                if name.endswith("facts"):
                    yield from keys_of(value)
                elif found := re.fullmatch(r"(?:.*\.)?facts\['(\w+)'\]", name):
                    yield found[1]
            case ast.AnnAssign(target=ast.Name(id="facts"), value=ast.expr() as value):
                yield from keys_of(value)


def keys_of(value: ast.expr) -> Iterator[str]:
    for node in ast.walk(value):
        if isinstance(node, ast.Dict):
            yield from (str(key.value) for key in node.keys if isinstance(key, ast.Constant))


def test_every_fact_of_an_error_is_documented_once_and_there_is_no_other() -> None:
    files = [path for folder in ("redwire", "regions", "cluster") for path in (ROOT / folder).rglob("*.py")]
    files += [ROOT / "tools" / "errors.py", *(ROOT / "tools" / "cli").glob("*.py")]
    named = {name for path in files for name in facts_of(ast.parse(path.read_text()))}
    rows = re.findall(r"^\| `(\w+)` \| (?:number|text|list|object) \| ", ERRORS, re.MULTILINE)
    assert rows == sorted(named | {"receipt"})


def test_the_keys_of_a_receipt_are_documented() -> None:
    copy = CopyAck("eu-1", "eu", 1_000)
    token = Token(ClusterId("0" * 32), Term(1), Lsn(7))
    receipt = Receipt(Lsn(7), Term(1), "majority", "majority", (copy,), copy, token, False)
    section = ERRORS[ERRORS.index("## The receipt") :]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [*receipt.to_json()]
    assert set(CopyAck.__struct_fields__) <= set(re.findall(r"`(\w+)`", section))


def word_of(kind: type[RedwireError]) -> str:
    """The `name` of such an error, of which nothing else is known."""
    return RedwireError.name.fget(kind.__new__(kind))


def test_the_codes_beside_outcomes_and_facts_are_those_that_commands_tell() -> None:
    cells = re.findall(r"^\| \d+ \| ([^|]+) \|", ERRORS, re.MULTILINE)
    cells += re.findall(r"^\| `\w+` \| \w+ \| [^|]+ \| ([^|]+) \|$", ERRORS, re.MULTILINE)
    codes = {word for cell in cells for word in re.findall(r"[A-Z_]{4,}", cell)}
    homes = (f"{package}.errors" for package in ("redwire", "regions", "cluster", "tools"))
    found = [each for home in homes for each in vars(importlib.import_module(home)).values()]
    kinds = [kind for kind in found if isinstance(kind, type) and issubclass(kind, RedwireError)]
    words = {word_of(kind) for kind in kinds} | {code for code in Code if code not in ("INVALID", "TIMEOUT")}
    assert len(codes) > 20
    assert codes - words == set()


def test_the_protocols_limits_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| ([\d,]+)[^|]*\|[^|]+\| `([\w.]+)\.(\w+)` \|", PROTOCOL, re.MULTILINE)
    section = PROTOCOL[PROTOCOL.index("## 7. Limits") : PROTOCOL.index("## 8.")]
    assert len(rows) == section.count("\n| ") - 1 > 15
    for limit, module, name in rows:
        assert getattr(importlib.import_module(module), name) == int(limit.replace(",", "")), name


def paths(kind: msgspec.inspect.Type, path: str = "") -> Iterator[str]:
    """Every field of a schema that is no struct itself: `nodes[].lag.ms`."""
    match kind:
        case msgspec.inspect.StructType(fields=fields):
            for field in fields:
                yield from paths(field.type, f"{path}.{field.encode_name}" if path else field.encode_name)
        case msgspec.inspect.VarTupleType(item_type=item):
            yield from paths(item, f"{path}[]")
        case _:
            yield path


def test_the_status_documents_fields_are_documented_each_with_unit_and_meaning() -> None:
    rows = re.findall(r"^\| `([a-z]+[^`]*)` \| ([^|]+) \| ([^|]+) \|$", OPERATIONS, re.MULTILINE)
    section = OPERATIONS[: OPERATIONS.index("### Events")]
    documented = [name for name, _, _ in rows if f"| `{name}` |" in section]
    assert documented == list(paths(msgspec.inspect.type_info(Status)))
    assert all(unit.strip() and meaning.strip() for _, unit, meaning in rows)
    assert f"| `schema` | number | version of this schema, {SCHEMA} |" in section


def test_the_kinds_of_events_are_documented_with_their_levels() -> None:
    section = OPERATIONS[OPERATIONS.index("### Events") :]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| [^|]+ \|$", section, re.MULTILINE)
    assert rows == [(kind.value, level(kind)) for kind in EventKind]


def test_every_alert_has_a_runbook_that_says_what_it_means_how_to_look_and_what_to_do() -> None:
    section = RUNBOOKS[RUNBOOKS.index("## Alerts") :]
    found = re.split(r"^### (\w+)$", section, flags=re.MULTILINE)[1:]
    rules = (ROOT / "examples" / "deploy" / "alerts.yml").read_text()
    assert sorted(found[::2]) == sorted(set(re.findall(r"alert: (\w+)", rules)))
    for text in found[1::2]:
        assert re.findall(r"\*\*(\w+)\*\*\s[\w*`]", text) == ["Means", "Look", "Do"]


def test_what_runbooks_and_the_doctor_point_to_is_a_heading() -> None:
    headings = set(re.findall(r"^##+ (.+)$", OPERATIONS, re.MULTILINE))
    said = "".join(path.read_text() for path in (ROOT / "tools" / "doctor").glob("*.py"))
    pointed = set(re.findall(r"docs/OPERATIONS\.md, ([A-Z][a-z ]+)", said))
    pointed |= set(re.findall(r"(?<!\*)\*([A-Z][^*]+?)\*(?!\*)", " ".join(RUNBOOKS.split())))
    assert len(pointed) > 8
    assert pointed - headings == set()


def test_what_a_node_command_answers_to_programs_is_documented() -> None:
    keys = re.findall(r'"(\w+)":', inspect.getsource(answer_of_node_command))
    paragraph = CONFIGURATION[CONFIGURATION.index("With `--json`") : CONFIGURATION.index("`check` asks")]
    assert len(keys) > 10
    assert set(keys) - set(re.findall(r"`(\w+)`", paragraph)) == set()


def test_the_lines_of_the_audit_log_are_documented_with_what_is_in_them() -> None:
    section = CONFIGURATION[CONFIGURATION.index("## The audit log") : CONFIGURATION.index("## New cert")]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", section, re.MULTILINE)
    kinds = {kind.__struct_config__.tag: kind.__struct_fields__ for kind in Event.__subclasses__()}
    assert {event: tuple(re.findall(r"`(\w+)`", fields)) for event, fields in rows} == kinds
    said = set(re.findall(r"`(\w+)`", section[section.index("`session` and `by`") :]))
    assert {*Actor.__struct_fields__, *(outcome.value for outcome in ActOutcome)} <= said
    assert f"there are {LINES_A_SECOND} lines a second" in section
    assert f"beyond {TEXT_CHARS_MAX} characters" in section


def keys(kind: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(key, default as the document writes it) of a section and those in it; `*` where words are free."""
    for found in msgspec.structs.fields(kind):
        name = f"{prefix}{found.encode_name}"
        inner = [each for each in (found.type, *get_args(found.type)) if is_section(each)]
        if not found.required:
            plain = isinstance(found.default, int | StrEnum)
            default = str(found.default) if plain else "*"
        else:
            default = "required"
        if not inner or inner[0] is TlsConfig:
            yield name, default
        elif found.type is not inner[0]:
            yield name, default  # a list of sections
        for section in inner[:1]:
            yield from keys(section, f"{name}.")


def is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not CommitPolicy


def ranges(kind: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(key, range as the document writes it) of the numbers of a section and of those in it."""
    for found in msgspec.structs.fields(kind):
        name = f"{prefix}{found.encode_name}"
        yield from (
            (name, f"{meta.ge} to {meta.le}")
            for meta in getattr(found.type, "__metadata__", ())
            if meta.ge is not None or meta.le is not None
        )
        for section in (each for each in (found.type, *get_args(found.type)) if is_section(each)):
            yield from ranges(section, f"{name}.")


def test_the_configurations_ranges_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \| [^|]+ \| ([^|]+?) \|", KEYS, re.MULTILINE)
    written = {key: said.partition(", ")[2] for key, said in rows if re.search(r", \d+ to \d+$", said)}
    real = dict(ranges(File))
    assert len(real) > 6
    assert written == real | {"cluster.members": f"1 to {MEMBERS_MAX}"}
    assert f"list of names, at most {ADMINS_MAX}" in dict(rows)["cluster.admins"]


def test_the_configurations_keys_and_defaults_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \| ([^|]+?) \|", KEYS, re.MULTILINE)
    written, real = dict(rows), dict(keys(File))
    assert len(written) == len(rows) and len(real) > 25
    assert written.keys() == real.keys()
    assert {key: default for key, default in written.items() if real[key] != "*"} == {
        key: default for key, default in real.items() if default != "*"
    }
    assert "required" not in {written[key] for key, default in real.items() if default == "*"}
