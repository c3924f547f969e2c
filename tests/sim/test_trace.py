from __future__ import annotations

from dataclasses import replace

import pytest

from kvlab.report.lanes import lanes_lines
from kvlab.sim.draw import draw
from kvlab.sim.host import START_US
from kvlab.sim.run import run
from kvlab.sim.trace import Row, Tracer
from kvlab.spec.scenario import SECOND_US, FaultSpec, OperationSpec, ScenarioSpec, WorkloadSpec
from kvlab.wire.json_lines import encode_request
from kvlab.wire.peer import HELLO, MAGIC, READ, REFUSE, STALE, TURN, encode_frame

SPEC = ScenarioSpec(
    nodes=3,
    operations=(
        OperationSpec(at_us=600_000, client="c1", verb="set", key="k1", value="v1", node="server1"),
        OperationSpec(
            at_us=700_000, client="c1", verb="get", key="k2", node="server2", level="one", meta=True
        ),
    ),
    faults=(
        FaultSpec(kind="pause", at_us=800_000, for_us=100_000, targets="server3"),
        FaultSpec(kind="kill", at_us=SECOND_US, for_us=500_000, targets="server3"),
        FaultSpec(
            kind="partition", at_us=2 * SECOND_US, for_us=3 * SECOND_US, groups="server1 | server2"
        ),
    ),
    workload=WorkloadSpec(operations=0),
    time_us=6 * SECOND_US,
)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    tracer = Tracer()
    run(SPEC, trace=tracer)
    return tracer.rows


def test_a_trace_changes_nothing() -> None:
    for seed in (1, 3, 40):
        spec = draw(seed, operations=60)
        one, two = run(spec), run(spec, trace=Tracer(beats=True))

        assert (one.history, one.events, one.sim_us) == (two.history, two.events, two.sim_us)


def test_the_story_of_a_write_can_be_read(rows: list[Row]) -> None:
    told = [(kind, source, target) for _, kind, source, target, _ in rows]
    words = [words for *_, words in rows]
    asked = words.index("SET k1 v1")
    told_on = next(at for at, said in enumerate(words) if "write k1 v1 @0.60" in said)
    answered = words.index("SUCCESS k1")

    assert asked < told_on < answered
    assert told[asked] == ("data", "c1", "server1")
    assert told[told_on][:2] == ("data", "server1")
    assert told[answered] == ("data", "server1", "c1")
    assert "GET k2 (one)" in words
    assert any(said.startswith("ERROR k2 NOT_FOUND") for said in words)


def test_what_goes_wrong_has_rows(rows: list[Row]) -> None:
    kinds = {kind for _, kind, *_ in rows}
    of = {kind: [words for _, one, _, _, words in rows if one == kind] for kind in kinds}

    assert {"connect", "data", "hold", "fault", "undo", "start", "eof"} <= kinds
    assert of["fault"][:2] == ["pause server3", "kill server3"]
    assert of["undo"][-1].startswith("partition server1 | server2")
    assert of["start"].count("life 2") == 1
    assert any(words.startswith("hello server3 boot ") for words in of["data"])
    assert all(" bytes that " not in words for words in of["data"])


def test_rows_are_in_order_and_make_lines(rows: list[Row]) -> None:
    lines = list(lanes_lines(rows))

    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert len(lines) == len(rows) + 2
    assert max(map(len, lines)) <= 160


def test_heartbeats_are_shown_when_asked(rows: list[Row]) -> None:
    tracer = Tracer(beats=True)
    run(SPEC, trace=tracer)
    more = [row for row in tracer.rows if row not in rows]

    assert [row for row in tracer.rows if row in rows] == rows
    assert len(more) > 50
    assert all(row[1] in ("open", "data", "hold") for row in more)


def test_rows_have_a_bound() -> None:
    tracer = Tracer(rows_max=20)
    run(replace(SPEC, faults=()), trace=tracer)

    assert len(tracer.rows) == 20
    assert tracer.dropped > 20


HANDSHAKE = MAGIC + encode_frame([HELLO, "c", "a", START_US + 5, 2, 16, "b", 0, "a:1"])
MAKE = (START_US + 1_000_250 - 1_735_689_600_000_000) << 12 | 2


def _turn(groups=(), ack=0, exceptions=(), controls=()) -> bytes:
    return encode_frame([TURN, 3, 0, list(groups), ack, list(exceptions), list(controls)])


def _said(*pieces: tuple[str, bytes], kind: str = "data") -> list[str]:
    """Return what pieces by "a" (who dialed) and "b" say on one connection."""
    tracer = Tracer()
    for who, data in pieces:
        tracer(0, "data" if data is pieces[0][1] else kind, who, "ba"[who == "b"], data, 7)
    return [words for *_, words in tracer.rows]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (_turn(ack=12), "turn e3 ack 12"),
        (
            _turn([[7, [b"k", MAKE, "v", b"l", 0, READ, b"m", MAKE, True]]]),
            "turn e3 group 7 3 ops (write k v @1.000250/2, read l @0, delete m @1.000250/2)",
        ),
        (_turn([[7, [b"k", MAKE, None]]]), "turn e3 group 7 1 op (bury k @1.000250/2)"),
        (
            _turn([[7, [b"k", 1, "v"] * 2], [8, [b"k", 1, "v"] * 3]], 12, [], [["join", {}, 0]]),
            "turn e3 2 groups 5 ops ack 12 [join]",
        ),
        (
            _turn(exceptions=[7, STALE, 4, None, 8, 0, 0, READ, 8, 1, MAKE, "v"]),
            "turn e3 but (g7 too old for e4, g8.0 @0, g8.1 v @1.000250/2)",
        ),
        (_turn(controls=[["put", [b"k", 1, "v"]], ["more", 4]]), "turn e3 [put k] [more 4]"),
    ],
)
def test_turns_in_words(frame: bytes, words: str) -> None:
    assert _said(("a", HANDSHAKE), ("a", frame))[1:] == [words]
    for cut in range(1, len(frame)):
        assert _said(("a", HANDSHAKE), ("a", frame[:cut]), ("a", frame[cut:]))[1:] == [words]
    assert _said(("a", HANDSHAKE + frame)) == [f"hello a boot 0.000005 e2; {words}"]


def test_turns_that_only_keep_a_link_alive_say_nothing() -> None:
    acks = [("a", _turn(ack=3)), ("a", _turn(ack=3)), ("a", _turn(controls=[["digests", 3, []]]))]

    assert _said(("a", HANDSHAKE), *acks)[1:] == ["turn e3 ack 3"]


def test_both_sides_of_a_connection_are_read() -> None:
    refuse = encode_frame([REFUSE, "TWIN", "there is one"])

    assert _said(("a", HANDSHAKE), ("b", refuse))[1:] == ["refuse TWIN: there is one"]
    assert _said(("a", encode_request("SET", "k", "v")[:9]), ("a", b"")) == []


def test_what_is_held_is_described_by_itself() -> None:
    assert _said(("a", HANDSHAKE), ("a", _turn(ack=3)), kind="hold")[1:] == ["turn e3 ack 3"]
    assert _said(("a", HANDSHAKE), ("a", _turn(ack=3)[:9]), kind="hold")[1:] == ["9 bytes"]


def test_rubbish_is_called_so() -> None:
    for rubbish in (encode_frame([9]), _turn(groups=[5]), _turn(controls=[5])):
        [_, words] = _said(("a", HANDSHAKE), ("a", rubbish))
        assert words.startswith(f"{len(rubbish)} bytes that b cannot read: ")
