"""Anybody's history: the same operations as `history.load`, what is tolerated, what is refused."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.check.columns import Table, columns_of
from kvlab.check.reading import Reading, read_history
from kvlab.errors import SpecError
from kvlab.history import Event, encode_events, load
from kvlab.rng import Rng

DRAWN = 60


def line(kind: str, t_us: int = 1, *, client: object = "c1", op: object = 7, f="set", **more):
    told = {"t_us": t_us, "client": client, "op": op, "type": kind, "f": f, "key": "k", **more}
    return json.dumps(told).encode() + b"\n"


def problems(data: bytes) -> tuple[str, ...]:
    with pytest.raises(SpecError) as caught:
        read_history([data], name="run.jsonl")
    return caught.value.problems


def drawn(rng: Rng) -> list[Event]:
    """Draw events of operations that overlap, with everything that a line may tell."""
    events: list[Event] = []
    open_ops: list[Event] = []
    for t_us in range(rng.randint(0, 60)):
        if open_ops and rng.random() < 0.5:
            begun = open_ops.pop(rng.randrange(len(open_ops)))
            kind = rng.choice(["ok", "ok", "fail", "info"])
            end = Event(
                t_us=t_us,
                client=begun.client,
                op=begun.op,
                type=kind,  # type: ignore[arg-type]
                f=begun.f,
                key=begun.key,
                version=rng.choice(["", "7", "v7", "9" * 30]),
                degraded=rng.random() < 0.2,
                error=rng.choice(["", "timeout"]),
                final=rng.random() < 0.2,
            )
            if begun.f == "get" and kind == "ok":
                end.value = rng.choice([None, "", "ä"])
            events.append(end)
            continue
        f = rng.choice(["get", "set", "delete", "cas", "incr", "append"])
        begun = Event(
            t_us=t_us,
            client=rng.choice(["c1", "ç"]),
            op=t_us,
            type="invoke",
            f=f,  # type: ignore[arg-type]
            key=rng.choice(["k1", "k2"]),
            node=rng.choice(["", "server1"]),
        )
        if f in {"set", "cas", "append"}:
            begun.value = rng.choice(["", "x", "ä"])
        if f == "cas":
            begun.expected = rng.choice([None, "x"])
        open_ops.append(begun)
        events.append(begun)
    return events


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_it_reads_what_the_history_itself_reads_in_blocks_of_any_size(size: int) -> None:
    rng = Rng(size)
    for _ in range(DRAWN):
        data = encode_events(drawn(rng))
        reading = read_history(data[at : at + size] for at in range(0, len(data), size))
        ops = load(data).ops

        assert tuple(reading.table.ops) == ops
        assert tuple(Table(columns_of(load(data))).ops) == ops
        by_key = {key: list(some) for key, some in reading.table.by_key().items()}
        assert by_key == load(data).by_key()
        assert reading.table.at([op.start for op in ops]) == list(ops)


def test_keys_are_given_whole_however_large_or_many_they_are() -> None:
    rng = Rng(5)
    keys = [rng.choice(["hot", f"k{rng.randrange(900)}"]) for _ in range(4_000)]
    events = [
        Event(t_us=at, client="c", op=at, type="invoke", f="get", key=key)
        for at, key in enumerate(keys)
    ]
    data = encode_events(events)
    table, wanted = read_history([data]).table, load(data).by_key()

    assert {key: list(ops) for key, ops in table.by_key().items()} == wanted
    assert [list(ops) for ops in table.by_key().values()] == list(wanted.values())
    assert {key: list(table.by_key()[key]) for key in ("hot", keys[1])}.items() <= wanted.items()


def ops_of(reading: Reading):
    return list(reading.table.ops)


def test_a_last_line_that_was_cut_short_is_left_out_and_that_is_said() -> None:
    data = line("invoke", value="a") + line("ok", 2) + b'{"t_us":3,"cli'
    reading = read_history([data])

    assert [op.outcome for op in ops_of(reading)] == ["ok"]
    assert reading.notes == ("line 3 was cut short and is left out",)


def test_a_last_line_without_a_newline_counts() -> None:
    reading = read_history([line("invoke", value="a") + line("ok", 2).rstrip()])

    assert [op.outcome for op in ops_of(reading)] == ["ok"]
    assert reading.notes == ()


def test_a_file_that_is_no_history_is_not_taken_for_one_that_was_cut_short() -> None:
    assert problems(b"hello")[0].startswith("run.jsonl, line 1: ")


def test_operations_without_an_end_are_told() -> None:
    reading = read_history([line("invoke", value="a")])

    assert (ops_of(reading)[0].outcome, ops_of(reading)[0].end) == ("info", None)
    assert reading.notes == ("1 operation never completed: it may have happened",)


def test_numbers_of_others_stand_for_their_texts() -> None:
    data = line("invoke", value=5, client=3, color="red") + line("ok", 2.0, client=3, version=12)
    data += line("invoke", 3, f="get", op="seven", node=None)
    data += line("ok", 4, f="get", op="seven", value=True)
    one, two = ops_of(read_history([data]))

    assert (one.client, one.value, one.version) == ("3", "5", 12)
    assert (two.value, two.outcome) == ("true", "ok")


def test_a_name_spelled_with_escapes_is_read_too() -> None:
    data = line("invoke", value="a") + line("ok", 2, degraded=True, version="7", error="x")
    data = data.replace(b'"degraded"', rb'"degr\u0061ded"').replace(
        b'"version"', rb'"v\u0065rsion"'
    )
    (one,) = ops_of(read_history([data]))

    assert (one.degraded, one.version, one.error) == (True, 7, "x")


def test_a_client_that_does_one_thing_at_a_time_needs_no_numbers() -> None:
    lines = [line("invoke", value="a"), line("ok", 2), line("invoke", 3, f="get")]
    lines.append(line("ok", 4, f="get", value="a"))
    data = b"".join(one.replace(b'"op": 7, ', b"") for one in lines)

    assert [op.end for op in ops_of(read_history([data]))] == [1, 3]


@pytest.mark.parametrize(
    ("data", "number", "complaint"),
    [
        (line("ok"), 1, "client c1 completed op 7, which it did not invoke before"),
        (b"\n" + line("invoke", value="a") * 2, 3, "client c1 invoked op 7 twice"),
        (line("invoke", value="a") + line("ok") * 2, 3, "client c1 completed op 7 twice"),
        (line("invoke", value="a") + line("ok", f="get", value="a"), 2, "completed it as get k"),
        (line("invoke", 5, value="a") + b"\n\n" + line("ok", 4), 4, "t_us 4 is before 5"),
        (line("invoke"), 1, "a set needs a value"),
        (line("invoke", f="get") + line("ok", f="get"), 2, "needs a value (null for an absent"),
        (line("invoke", value="a") + b"{oops\n" + line("ok"), 2, "{oops"),
        (line("invoke", f="put", value="a"), 1, "put"),
        (line("invoke", 1 << 70, value="a"), 1, "t_us"),
        (b'{"t_us":1}\n', 1, "client"),
        (line("invoke", value="a") + b"\xff\xfe\n", 2, ""),
        (line("invoke", value=[1]), 1, "value"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(data: bytes, number: int, complaint: str) -> None:
    (problem,) = problems(data)
    assert problem.startswith(f"run.jsonl, line {number}: ")
    assert complaint in problem


def test_of_many_wrong_lines_the_first_are_named() -> None:
    assert len(problems(b"x\n" * 100)) == 20
    assert len(problems(b"".join(line("ok", op=op) for op in range(100)))) == 20


def test_a_line_without_an_end_is_not_read_for_ever(monkeypatch) -> None:
    monkeypatch.setattr("kvlab.check.reading.LINE_BYTES_MAX", 100)
    with pytest.raises(SpecError) as caught:
        read_history(b"x" * 50 for _ in range(1_000_000))

    assert "longer than" in caught.value.problems[0]


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_read_or_refused(data: bytes) -> None:
    with suppress(SpecError):  # and nothing else
        read_history([data])
