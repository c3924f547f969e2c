"""Reads a run from its folder for those who show it; and writes its page. It judges nothing.

The library that draws the charts is not imported: the page carries its script.
"""

from __future__ import annotations

import base64
import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import kvlab
from kvlab.errors import InfraError
from kvlab.rundir import SPEC, RunDir, blocks_of, history_path

if TYPE_CHECKING:
    from kvlab.report.html import Parts
    from kvlab.report.record import RunRecord

PAGE = Path(kvlab.__file__).parent / "report" / "page"
LIBRARY = Path("package_data") / "plotly.min.js"
COMPRESSION = 6  # 9 takes twice as long for a fifth of a percent


def read_record(files: RunDir) -> RunRecord:
    """Read what a run left. Raises UsageError, SpecError and InfraError for what cannot be read."""
    from kvlab.check.reading import read_history
    from kvlab.report.record import RunRecord
    from kvlab.spec.scenario_file import parse_scenario

    path = history_path(files.path)
    reading = read_history(blocks_of(path), name=str(path))
    text = files.read(SPEC)
    spec = parse_scenario(text, source=str(files.path / SPEC)) if text is not None else None
    return RunRecord(
        name=spec.name if spec is not None else files.path.resolve().name,
        path=str(files.path),
        columns=reading.table.columns,
        notes=reading.notes,
        verdict=files.verdict(),
        faults=files.faults() or [],
        spec=spec,
        spec_text=text or "",
        logs=len(files.logs()),
        ring=files.ring(),
    )


def page_of(record: RunRecord) -> str:
    """Return a run as one HTML document."""
    from kvlab.report.html import report_html

    return report_html(record, page_parts(_library()))


def page_parts(library: str) -> Parts:
    """Return the files of the package that a page is made of, around the library of charts."""
    from kvlab.report.html import Parts

    return Parts(
        template=_text(PAGE / "page.html"),
        css=_text(PAGE / "page.css"),
        script=_text(PAGE / "page.js"),
        library=library,
        version=kvlab.__version__,
    )


def _library() -> str:
    """Return Plotly's script as base64 of gzip: two fifths of its size, and no tag can end it."""
    found = find_spec("plotly")
    if found is None or found.origin is None:
        raise InfraError("plotly is not installed", hint="pip install plotly")
    try:
        script = (Path(found.origin).parent / LIBRARY).read_bytes()
    except OSError as error:
        raise InfraError(f"plotly has no {LIBRARY}: {error.strerror}") from error
    return base64.b64encode(gzip.compress(script, COMPRESSION, mtime=0)).decode()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise InfraError(f"cannot read {path}: {error.strerror}") from error
