"""Any calls at all, made to the real and to the simulated disk: both answer the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from kvlab.storage.disk import Disk, DiskError, File
from tests.conformance.disk_worlds import Real, Simulated, World

names = st.sampled_from(["a", "b", "c"])
steps = st.one_of(
    st.tuples(st.just("create"), names),
    st.tuples(st.just("open"), names),
    st.tuples(st.just("rename"), names, names),
    st.tuples(st.just("remove"), names),
    st.tuples(st.sampled_from(["names", "sync_dir"])),
    st.tuples(st.just("append"), st.binary(max_size=2000)),
    st.tuples(st.just("read_at"), st.integers(0, 3000), st.integers(0, 3000)),
    st.tuples(st.sampled_from(["truncate", "preallocate"]), st.integers(0, 6000)),
    st.tuples(st.sampled_from(["sync", "close", "size", "end"])),
    st.tuples(st.just("restart")),
)


def _content(disk: Disk, name: str) -> bytes:
    file = disk.open(name)
    try:
        return file.read_at(0, file.size + 1)
    finally:
        file.close()


def _answers(world: World, script: list[tuple]) -> list[object]:
    """Return what each call answers or raises; calls to a file go to the one opened last."""
    file: File | None = None
    answers: list[object] = []
    for call, *arguments in script:
        try:
            answer: object = None
            if call == "restart":
                world.restart()
                file = None
            elif hasattr(Disk, call):
                answer = getattr(world.disk, call)(*arguments)
                if call in {"create", "open"}:
                    if file is not None:
                        file.close()
                    file, answer = answer, None
            elif file is not None:
                what = getattr(file, call)
                answer = what(*arguments) if callable(what) else what
        except (DiskError, ValueError) as err:
            answer = type(err)
        answers.append(answer)
    return [*answers, *((name, _content(world.disk, name)) for name in world.disk.names())]


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, max_size=25))
def test_both_worlds_answer_the_same(script):
    with tempfile.TemporaryDirectory() as folder:
        real = Real(Path(folder))
        try:
            assert _answers(real, script) == _answers(Simulated(), script)
        finally:
            real.close()
