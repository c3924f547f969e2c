"""The rules of the house, checked by reading the sources; nothing of kvlab is run, save one start."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kvlab"
TESTS = ROOT / "tests"

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
SCRIPT_LINES_MAX = 60
TEST_SLEEP_SECONDS_MAX = 0.05

# Who may import whom. A room may always import itself and the base.
BASE = {"errors", "rng", "units"}
EVERYTHING = {"*"}
MAY_IMPORT = {
    "errors": set(),
    "rng": set(),
    "units": set(),
    "spec": BASE,
    "ring": BASE,
    "wire": BASE,
    "history": BASE,
    "fault": BASE,
    "workload": BASE,
    "check": BASE | {"history"},  # a history is what it judges
    "storage": BASE | {"wire"},
    "kv": BASE | {"ring", "wire", "storage"},
    "experiment": BASE | {"spec", "ring", "history", "fault", "workload", "check"},
    "report": BASE | {"spec", "ring", "history", "fault", "workload", "check", "experiment"},
    "rundir": BASE | {"history"},
    "live": BASE | {"kv", "ring", "wire", "storage"},
    "engine": BASE | {"live", "wire", "spec", "ring"},
    "sim": BASE
    | {"kv", "ring", "wire", "storage", "spec", "history", "fault", "workload", "check"}
    | {"experiment", "rundir"},
    "lab": BASE
    | {"live", "engine", "fault", "spec", "workload", "history", "check", "ring", "wire"}
    | {"experiment", "rundir"},
    "examples": set(),
    "cli": EVERYTHING,
    "pytest_plugin": EVERYTHING,
    "__main__": {"cli"},
    "__init__": set(),
}
# Imports for types alone leave no trace at run time, but they do tie rooms together.
TYPES_ONLY = {
    ("report", "lab"): "the tables of `bench` show the load generator's own result",
}
SHELLS = {"live", "lab", "rundir", "cli", "engine", "examples", "pytest_plugin"}
IO_MODULES = {
    *("asyncio", "fcntl", "multiprocessing", "psutil", "resource", "select", "selectors"),
    *("shutil", "signal", "socket", "socketserver", "ssl", "subprocess", "tempfile", "threading"),
    *("time", "concurrent", "uvloop", "os", "pathlib", "io", "prompt_toolkit"),
}
CHANCE_MODULES = {"random", "secrets", "uuid"}
PURE = {
    *("spec", "ring", "wire", "storage", "kv", "fault", "workload", "history", "experiment"),
    *("check", "report", "errors", "rng", "units"),
}
NODE_DOES_NOT_LOAD = ("typer", "rich", "numpy", "plotly", "psutil", "yaml", "prompt_toolkit")

# Sleeps in tests that stand for no condition, with the reason. Anything else waits for an event.
SLEEPS = {
    ("lab/test_shim_faults.py", "asyncio.sleep(0.1)"): "that nothing happens has no event",
    ("conformance/faulty_node.py", "time.sleep(slow_s)"): "a slow disk is what it plays",
    ("lab/fake_engine.py", "asyncio.sleep(SLOW_S)"): "a slow start is what this fake is for",
    ("live/echo_store.py", "asyncio.sleep(does.delay_s)"): "a slow server is what it plays",
}

# Broken up, so that this file does not find itself.
FORBIDDEN = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<![\w.])/" + r"(?:work|root|home/\w+)/\w",
        "py" + r"pi\.org",
        "python" + "hosted",
        "index" + "-url",
        "trusted" + "-host",
        r"\b(?:clau" + r"de|chat" + r"gpt|copi" + r"lot|anthro" + r"pic|open" + r"ai)\b",
    )
]


def _sources(base: Path) -> list[Path]:
    return sorted(path for path in base.rglob("*.py") if "__pycache__" not in path.parts)


MODULES = _sources(PACKAGE)
TEST_FILES = _sources(TESTS)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def _imports(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield (line, module, for types only) of every import, at the top or late."""
    typing_only = {
        id(inner)
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in node.body
        for inner in ast.walk(child)
    }
    for node in ast.walk(_tree(path)):
        types = id(node) in typing_only
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, types
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{_name(path)}:{node.lineno}: write the whole name, not a dot"
            module = node.module or ""
            if module == "kvlab":
                for alias in node.names:
                    yield node.lineno, f"kvlab.{alias.name}", types
            else:
                yield node.lineno, module, types


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _report(wrong: list[str], advice: str) -> None:
    assert not wrong, "\n".join([advice, *wrong])


def test_rooms_import_only_the_rooms_below_them() -> None:
    wrong = []
    for path in MODULES:
        room = _room(path)
        allowed = MAY_IMPORT.get(room)
        assert allowed is not None, f"{_name(path)}: a new room; give it a line in MAY_IMPORT"
        for line, module, types in _imports(path):
            parts = module.split(".")
            if parts[0] != "kvlab" or allowed == EVERYTHING:
                continue
            target = parts[1] if len(parts) > 1 else "__init__"
            if target in {room, "__init__"} or target in allowed:
                continue
            if types and (room, target) in TYPES_ONLY:
                continue
            wrong.append(f"{_name(path)}:{line}: {room} may not import {module}")
    _report(
        wrong, "move the code to a room that may know both, or hand the value in as an argument:"
    )


def test_only_the_shells_touch_the_world() -> None:
    wrong = [
        f"{_name(path)}:{line}: imports {module}"
        for path in MODULES
        if _room(path) not in SHELLS
        for line, module, _ in _imports(path)
        if module.split(".")[0] in IO_MODULES
    ]
    _report(wrong, "only live, lab, engine, rundir and cli do I/O; take the value as an argument:")


def test_only_one_module_draws() -> None:
    wrong = [
        f"{_name(path)}:{line}: imports {module}"
        for path in MODULES
        if path != PACKAGE / "rng.py"
        for line, module, _ in _imports(path)
        if module.split(".")[0] in CHANCE_MODULES
    ]
    _report(wrong, "take a kvlab.rng.Rng as an argument, so that a seed repeats the run:")


def test_a_node_process_loads_only_what_it_needs() -> None:
    code = (
        "import kvlab.live.node, kvlab.live.options, sys;"
        f"print([one for one in {NODE_DOES_NOT_LOAD!r} if one in sys.modules]);"
        "print(sorted({one.split('.')[1] for one in sys.modules if one.startswith('kvlab.')}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    heavy, rooms = map(ast.literal_eval, done.stdout.splitlines())

    assert heavy == [], "a node must start fast and stay small: import these late or elsewhere"
    assert set(rooms) <= {"errors", "rng", "units", "kv", "live", "ring", "storage", "wire"}


def test_every_module_says_first_what_it_is() -> None:
    wrong = []
    for path in MODULES:
        doc = ast.get_docstring(_tree(path))
        if not doc:
            wrong.append(f"{_name(path)}: no docstring")
            continue
        first = " ".join(doc.split("\n\n")[0].split())
        sentences = len(re.findall(r"[.!?:](?:\s+(?=[A-Z`\"])|$)", re.sub(r"`[^`]*`", "x", first)))
        if not 1 <= sentences <= 3 or len(first) > 400:
            wrong.append(f"{_name(path)}: the first paragraph has {sentences} sentences")
    _report(wrong, "begin a module with a sentence on what it is, then one on what it is not:")


def test_files_stay_short() -> None:
    wrong = [
        f"{_name(path)}: {lines} lines"
        for path in MODULES + TEST_FILES
        if (lines := len(path.read_text().splitlines())) > FILE_LINES_MAX
    ]
    _report(wrong, f"split files of more than {FILE_LINES_MAX} lines by what they are about:")


def test_functions_stay_short() -> None:
    """A signature is not counted: the options of a verb are a table, not code."""
    wrong = [
        f"{_name(path)}:{node.lineno}: {node.name} has {lines} lines"
        for path in MODULES + TEST_FILES
        for node in _functions(path)
        if (lines := (node.end_lineno or 0) - node.body[0].lineno + 1) > FUNCTION_LINES_MAX
    ]
    _report(wrong, f"split functions of more than {FUNCTION_LINES_MAX} lines:")


def test_every_package_folder_is_a_package() -> None:
    wrong = [_name(path.parent) for path in MODULES if not (path.parent / "__init__.py").is_file()]
    _report(sorted(set(wrong)), "add an __init__.py with a docstring to:")


def test_what_a_pure_room_offers_is_explained() -> None:
    wrong = []
    for path in MODULES:
        if _room(path) not in PURE:
            continue
        for node in ast.walk(_tree(path)):
            if not isinstance(node, ast.Module | ast.ClassDef):
                continue
            if isinstance(node, ast.ClassDef) and node.name.startswith("_"):
                continue
            wrong += [
                f"{_name(path)}:{child.lineno}: {child.name}"
                for child in node.body
                if isinstance(child, ast.FunctionDef | ast.ClassDef)
                and not child.name.startswith("_")
                and not ast.get_docstring(child)
            ]
    _report(wrong, "write a docstring (shapes, units, errors raised) for:")


def _seconds(node: ast.expr, module: ast.Module) -> float | None:
    """Return a length that stands there as a number or as a constant of its module."""
    if isinstance(node, ast.Name):
        for line in module.body:
            if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == node.id:
                node = line.value
                break
    return node.value if isinstance(node, ast.Constant) else None


def test_tests_wait_for_conditions_and_do_not_sleep() -> None:
    wrong = []
    for path in TEST_FILES:
        for node in ast.walk(_tree(path)):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            if ast.unparse(node.func) not in {"time.sleep", "asyncio.sleep", "sleep"}:
                continue
            length = _seconds(node.args[0], _tree(path))
            if length is not None and length <= TEST_SLEEP_SECONDS_MAX:
                continue
            if (str(path.relative_to(TESTS)), ast.unparse(node)) not in SLEEPS:
                wrong.append(f"{_name(path)}:{node.lineno}: {ast.unparse(node)}")
    _report(wrong, "wait for an event or poll a condition with a deadline in place of:")


def test_every_excuse_for_a_sleep_is_still_needed() -> None:
    left = [
        f"{file}: {call}"
        for file, call in SLEEPS
        if not (TESTS / file).is_file() or call not in (TESTS / file).read_text()
    ]
    _report(left, "take these lines out of SLEEPS:")


ORDERLESS = {"any", "all", "sum", "min", "max", "len", "set", "frozenset", "sorted", "dict"}


def _is_set(node: ast.expr, names: set[str]) -> bool:
    """Whether an expression is plainly a set, of things whose order is not that of integers."""
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() | ast.Sub() | ast.BitXor()):
            return _is_set(left, names)
        case ast.Name() | ast.Attribute():
            return ast.unparse(node) in names
    return False


def _set_names(scope: ast.AST) -> set[str]:
    """Return the names that a scope binds to sets and to nothing else that it says."""
    names = set()
    for node in ast.walk(scope):
        if isinstance(node, ast.AnnAssign):
            kind = ast.unparse(node.annotation)
            if re.match(r"(frozen)?set\[(?!int\])", kind):
                names.add(ast.unparse(node.target))
        elif isinstance(node, ast.Assign) and _is_set(node.value, set()):
            names |= {ast.unparse(target) for target in node.targets}
    return names


@pytest.mark.parametrize("path", [one for one in MODULES if _room(one) in PURE], ids=_name)
def test_pure_rooms_do_not_depend_on_the_order_of_a_set(path: Path) -> None:
    tree = _tree(path)
    harmless = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ORDERLESS
        for argument in node.args
    }
    wrong = []
    for scope in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        names = _set_names(scope)
        for node in ast.walk(scope):
            if isinstance(node, ast.For) and _is_set(node.iter, names):
                wrong.append(f"{_name(path)}:{node.lineno}: for ... in {ast.unparse(node.iter)}")
            elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
                first = node.generators[0].iter
                if id(node) not in harmless and _is_set(first, names):
                    wrong.append(f"{_name(path)}:{node.lineno}: {ast.unparse(node)}")
            elif (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) in {"list", "tuple", "iter"}
                and node.args
                and _is_set(node.args[0], names)
            ):
                wrong.append(f"{_name(path)}:{node.lineno}: {ast.unparse(node)}")
    _report(wrong, "text hashes differ from run to run: use sorted(...) or dict.fromkeys(...):")


def test_no_file_names_a_machine_or_a_registry() -> None:
    files = [ROOT / "README.md", ROOT / "pyproject.toml", ROOT / "cluster.yaml"]
    for folder in ("kvlab", "tests", "scripts", "docs", ".ci", ".github"):
        files += (ROOT / folder).rglob("*")
    wrong = []
    for path in files:
        if not path.is_file() or {"__pycache__", ".mypy_cache"} & set(path.parts):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if any(pattern.search(line) for pattern in FORBIDDEN):
                wrong.append(f"{_name(path)}:{number}: {line.strip()[:100]}")
    _report(wrong, "a clone on another machine has none of this; take it out:")


def test_scripts_can_be_run_and_are_short() -> None:
    wrong = []
    for path in sorted(one for one in (ROOT / "scripts").iterdir() if one.is_file()):
        lines = path.read_text().splitlines()
        if not path.stat().st_mode & 0o111:
            wrong.append(f"{_name(path)}: chmod +x")
        if not lines or not lines[0].startswith("#!"):
            wrong.append(f"{_name(path)}: begin with #!/usr/bin/env ...")
        if len(lines) > SCRIPT_LINES_MAX:
            wrong.append(f"{_name(path)}: {len(lines)} lines; move the work into the package")
    _report(wrong, "scripts are a few lines each:")
