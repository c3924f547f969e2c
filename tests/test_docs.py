"""The documents tell the truth: every block in them is run or read, every link leads somewhere.

Fenced blocks, by the first word of their info string:

    sh        run, in order, in one bash session per document, beside a real cluster.yaml
    console   the same for its `$ ` lines; the lines between must come out, in this order, where
              numbers with their units count as one sign, and `...` stands for any lines
    python    run by a Python that knows kvlab
    yaml      read as a cluster.yaml
    json      parsed, one document or one a line

`exit=N` after the first word: commands of the block end with N. `no-run`: it is for a reader only.
`localhost:8081` to `8085` become the addresses of server1 to server5 of the running cluster, and
`localhost:9081` to `9089` ports that are free.
"""

from __future__ import annotations

import ast
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from kvlab.cli.reference import cli_reference
from kvlab.cli.registry import VERBS
from kvlab.errors import NotRunningError
from kvlab.lab.reap import find_processes
from kvlab.lab.state import find_cluster
from kvlab.spec import parse_cluster
from tests.transcripts import plain

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
RUN = {"sh", "console", "python"}
KNOWN = RUN | {"yaml", "json", "text", ""}
NO_RUN_MAX = 4
SESSION_SECONDS_MAX = 110
BLOCK_SECONDS_MAX = 40
MORE_PORTS = 9


@dataclass(frozen=True)
class Block:
    """One fenced block of a document."""

    path: Path
    line: int
    kind: str
    flags: frozenset[str]
    text: str

    @property
    def where(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def exits(self) -> set[int]:
        """How its commands may end."""
        return {0} | {int(flag[5:]) for flag in self.flags if flag.startswith("exit=")}


@cache
def blocks_of(path: Path) -> list[Block]:
    text = path.read_text()
    found = []
    for match in BLOCK.finditer(text):
        kind, *flags = match[1].split() or [""]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(path, line, kind, frozenset(flags), match[2]))
    return found


ALL_BLOCKS = [block for path in DOCUMENTS for block in blocks_of(path)]
WITH_COMMANDS = [
    path
    for path in DOCUMENTS
    if any(block.kind in RUN and "no-run" not in block.flags for block in blocks_of(path))
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


class Session:
    """One bash beside a cluster.yaml with free ports, for the blocks of one document."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = re.sub(r'"localhost:\d+"', '"localhost:0"', (ROOT / "cluster.yaml").read_text())
        (folder / "cluster.yaml").write_text(spec)
        programs = folder / ".bin"
        programs.mkdir()
        for name, module in (("kvlab", " -m kvlab"), ("python", ""), ("python3", "")):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n')
            program.chmod(0o755)
        environ = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            "HOME": str(folder),
        }
        self._free = [socket.socket() for _ in range(MORE_PORTS)]
        for one in self._free:
            # Bound and never listening: a node may bind the same port, nobody is given it.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        self.shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._say("set -E -o pipefail; trap 'echo $? >> \"$FAILED\"' ERR")

    def _say(self, line: str) -> None:
        assert self.shell.stdin is not None
        self.shell.stdin.write(f"{line}\n")
        self.shell.stdin.flush()

    def _hear(self) -> str:
        """Return the shell's next line; end it if there is none in time."""
        assert self.shell.stdout is not None
        ready, _, _ = select.select([self.shell.stdout], [], [], BLOCK_SECONDS_MAX)
        if not ready:
            self._kill()
            return f"did not come back within {BLOCK_SECONDS_MAX} s"
        line = self.shell.stdout.readline().strip()
        if not line:
            self._kill()
        return line

    def _kill(self) -> None:
        if self.shell.returncode is None:
            os.killpg(self.shell.pid, signal.SIGKILL)
            self.shell.wait()

    def run(self, block: Block) -> str:
        """Run one block and return what it printed; its exit codes are asserted."""
        code = self._at_home(block.text)
        if block.kind == "console":
            code = "\n".join(line[2:] for line in code.splitlines() if line.startswith("$ "))
        file = self.folder / f".block-{block.line}"
        failed, printed = file.with_suffix(".failed"), file.with_suffix(".out")
        file.write_text(code + "\n")
        failed.touch()
        command = f"python {file}" if block.kind == "python" else f". {file}"
        self._say(f"FAILED={failed}; {command} > {printed} 2>&1 < /dev/null; echo done")
        told = self._hear()
        output = printed.read_text()
        assert told == "done", f"{block.where}: the shell {told or 'ended'}\n{output}"
        codes = {int(one) for one in failed.read_text().split()}
        wanted = block.exits - {0}
        assert codes == wanted, f"{block.where}: exit codes {codes}, not {wanted}\n{output}"
        return output

    def _at_home(self, text: str) -> str:
        """Replace the example's addresses by those of this machine."""
        ports = {9081 + i: one.getsockname()[1] for i, one in enumerate(self._free)}
        try:
            nodes = find_cluster(self.folder / "cluster.yaml").nodes
        except NotRunningError:
            nodes = {}
        ports |= {8080 + int(name[6:]): node.port for name, node in nodes.items()}
        return re.sub(
            r"\b(?:localhost:)?([89]08[1-9])\b",
            lambda match: match[0].replace(match[1], str(ports.get(int(match[1]), match[1]))),
            text,
        )

    def close(self) -> list[str]:
        """End everything; return what the document had left running."""
        left = []
        if (self.folder / ".kvlab" / "demo" / "supervisor.json").exists():
            left.append("the cluster: end the document with kvlab down")
            down = [sys.executable, "-m", "kvlab", "down"]
            subprocess.run(down, cwd=self.folder, check=False, capture_output=True, timeout=30)
        if self.shell.poll() is None:
            self._say("jobs -rp | wc -l")
            jobs = self._hear()
            if jobs != "0":
                left.append(f"{jobs} jobs of the shell")
        self._kill()
        for pipe in (self.shell.stdin, self.shell.stdout):
            assert pipe is not None
            pipe.close()
        for one in self._free:
            one.close()
        state = self.folder / ".kvlab" / "demo"
        left += [f"process {one.pid}" for one in find_processes(state.resolve())]
        return left


def check_transcript(block: Block, output: str) -> None:
    """Assert that the lines of a transcript came out, in this order."""
    actual = iter([plain(line) for line in output.splitlines()])
    for line in block.text.splitlines():
        wanted = plain(line)
        if line.startswith("$ ") or line == "..." or not wanted:
            continue
        assert any(one == wanted for one in actual), (
            f"{block.where}: this line did not come out (in its place): {line}\n{output}"
        )


@pytest.mark.live
@pytest.mark.timeout(SESSION_SECONDS_MAX)
@pytest.mark.parametrize("path", WITH_COMMANDS, ids=name_of)
def test_what_a_document_shows_can_be_done(path: Path, tmp_path: Path) -> None:
    session = Session(tmp_path)
    try:
        for block in blocks_of(path):
            if block.kind in RUN and "no-run" not in block.flags:
                output = session.run(block)
                if block.kind == "console":
                    check_transcript(block, output)
    finally:
        left = session.close()

    assert left == []


def test_a_transcript_that_does_not_come_out_is_noticed() -> None:
    block = Block(ROOT / "README.md", 1, "console", frozenset(), "$ x\nserver1 took 3ms\nOK\n")

    check_transcript(block, "server2 took 12 s\nmore\nOK\n")
    with pytest.raises(AssertionError, match="OK"):
        check_transcript(block, "OK\nserver2 took 12 s\n")


def test_few_blocks_are_for_readers_only() -> None:
    assert len([block for block in ALL_BLOCKS if "no-run" in block.flags]) <= NO_RUN_MAX


def test_every_block_says_what_it_is() -> None:
    assert {block.kind for block in ALL_BLOCKS} <= KNOWN
    assert [
        block.where
        for block in ALL_BLOCKS
        for flag in block.flags
        if flag != "no-run" and not re.fullmatch(r"exit=\d+", flag)
    ] == []


@pytest.mark.parametrize(
    "block", [one for one in ALL_BLOCKS if one.kind == "yaml"], ids=lambda one: one.where
)
def test_examples_of_cluster_yaml_are_right(block: Block) -> None:
    assert parse_cluster(block.text, source=block.where).nodes


@pytest.mark.parametrize(
    "block", [one for one in ALL_BLOCKS if one.kind == "json"], ids=lambda one: one.where
)
def test_examples_of_json_are_json(block: Block) -> None:
    try:
        json.loads(block.text)
    except ValueError:
        for line in block.text.splitlines():
            json.loads(line)


def test_links_between_documents_lead_somewhere() -> None:
    wrong = []
    for path in DOCUMENTS:
        for link in LINK.findall(BLOCK.sub("", path.read_text())):
            if "://" in link:
                continue
            target, _, anchor = link.partition("#")
            there = (path.parent / target).resolve() if target else path
            if not there.exists():
                wrong.append(f"{name_of(path)}: {link}")
            elif anchor and there.suffix == ".md" and anchor not in anchors_of(there):
                wrong.append(f"{name_of(path)}: {link} (no such heading)")

    assert wrong == []


@cache
def anchors_of(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def test_every_document_can_be_found_from_the_readme() -> None:
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        path = todo.pop()
        seen.add(path)
        for link in LINK.findall(path.read_text()):
            there = (path.parent / link.partition("#")[0]).resolve()
            if there.suffix == ".md" and there.exists() and there not in seen:
                todo.append(there)

    assert [name_of(path) for path in DOCUMENTS if path.resolve() not in seen] == []


def test_every_verb_is_written_about() -> None:
    told = (ROOT / "README.md").read_text() + (DOCS / "reference" / "cli.md").read_text()

    assert [verb for verb in VERBS if f"kvlab {verb}" not in told] == []


def test_the_reference_of_verbs_is_what_the_app_says() -> None:
    written = (DOCS / "reference" / "cli.md").read_text()

    assert cli_reference() == written, "run scripts/docs"


def test_every_field_of_cluster_yaml_is_written_about_with_its_default() -> None:
    text = (DOCS / "reference" / "cluster-yaml.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \| `([^`]*)` \|", text, re.MULTILINE))
    spec = parse_cluster("nodes: 1").to_builtins()
    del spec["nodes"]
    defaults = {
        f"{name}.{inner}" if inner else name: value
        for name, group in spec.items()
        for inner, value in (flat(group).items() if isinstance(group, dict) else [("", group)])
    }
    # With one node a majority is one; of three copies it is two.
    defaults |= {"replication.n": 3, "replication.r": 2, "replication.w": 2}

    assert {name: as_yaml(value) for name, value in defaults.items()} == {
        name: default for name, default in rows.items() if not name.startswith("nodes")
    }


def flat(group: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in group.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def as_yaml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return json.dumps(value) if isinstance(value, bool) else str("" if value is None else value)


def test_the_error_codes_that_nodes_send_are_written_about() -> None:
    text = (DOCS / "reference" / "protocol.md").read_text()
    told = set(re.findall(r"^\| `([A-Z_]+)` \| (?:yes|no) \|", text, re.MULTILINE))
    sent = set()
    for room in ("kv", "wire"):
        for path in (ROOT / "kvlab" / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    sent |= {node.value.partition(": ")[0]}
    codes = {"BAD_REQUEST", "BAD_TYPE", "UNAVAILABLE", "UNKNOWN", "TOO_LARGE", "BUSY"}
    codes |= {"WRONG_MODE", "READ_ONLY", "ENDING", "CONFLICT", "NOT_A_NUMBER"}
    codes |= {"NOAUTH", "WRONGPASS"}

    assert codes | {"NOT_FOUND"} == told
    assert codes <= sent


def test_the_changelog_has_the_shape_that_tools_expect() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    releases = [line for line in lines if line.startswith("## ")]
    parts = {line for line in lines if line.startswith("### ")}

    assert lines[0] == "# Changelog"
    assert releases[0] == "## [Unreleased]"
    assert all(re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", one) for one in releases[1:])
    assert parts <= {
        f"### {one}" for one in ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    }


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_a_document_has_one_title(path: Path) -> None:
    assert len(re.findall(r"^# ", BLOCK.sub("", path.read_text()), re.MULTILINE)) == 1
