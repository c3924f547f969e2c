"""The YAML layer: limits, what is not allowed in these files, and lines that are right."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvlab.errors import SpecError
from kvlab.spec import parse_cluster
from kvlab.spec.document import TEXT_CHARS_MAX, Problems, compose, shown_text

EXAMPLE = (Path(__file__).parents[2] / "cluster.yaml").read_text()
CHECK = "; check indentation, colons, brackets and quotes here and just above"


def problems_of(text: str) -> list[str]:
    problems = Problems("f")
    compose(text, problems)
    return [f"{line}: {sentence}" for line, sentence in problems.found]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "1: the file is empty; write at least: nodes: 3"),
        ("# nothing\n", "1: the file is empty; write at least: nodes: 3"),
        ("a: 1\n\tb: 2\n", "2: the line is indented with a tab; write spaces"),
        (
            "a: 1\n---\nb: 2\n",
            "2: a second document starts here; write one file for each",
        ),
        (
            "a: &x [1]\nb: *x\n",
            (
                "1: anchors and aliases (here x) are not used in this file; write the value again,"
                " or quote it if & or * belong to it"
            ),
        ),
        (
            "a: 1\nb: !!python/object/apply:os.system [id]\n",
            "2: the tag !!python/object/apply:os.system is not allowed; write the value alone",
        ),
        ("a: 1\nb: 2\na: 3\n", "3: a is given twice (first on line 1); keep one"),
        ("a:\n- {b: 1, b: 2}\n", "2: a[1].b is given twice (first on line 2); keep one"),
        ("? [a]\n: 1\n", "1: a key is a list; write a plain word"),
        ("a: b: c\n", f"1: this is not YAML: mapping values are not allowed here{CHECK}"),
        (
            "a: 1\n  b: 2\n",
            f"2: this is not YAML: mapping values are not allowed here{CHECK}",
        ),
        (
            "a: 1\nb: 'x\n",
            "3: this is not YAML: while scanning a quoted scalar found unexpected end of stream"
            + CHECK,
        ),
        ("a: 1\nb: \x00\n", "2: character 0x0 is not allowed in YAML; remove it"),
        ('a: "\\UFFFFFFFF"\n', f"1: this is not YAML{CHECK}"),
        (
            "a: {b} c\n",
            (
                "1: this is not YAML: while parsing a block mapping expected <block end>, but found"
                " '<scalar>'; put text with {braces} in quotes"
            ),
        ),
        ("a: " + "[" * 13 + "]" * 13, "1: more than 12 levels are nested here; write fewer"),
        (
            "a: [" + "1," * 10_001 + "]",
            "1: there are more than 10000 values up to here; write fewer",
        ),
        ("a" * (TEXT_CHARS_MAX + 1), "1: the file is longer than 65536 characters; write less"),
    ],
)
def test_what_is_not_allowed_is_named_with_its_line(text, problem):
    assert problems_of(text) == [problem]


def test_a_thousand_million_laughs_are_refused_before_they_are_built():
    laughs = 'a: &a ["lol","lol"]\n' + "".join(
        f"{this}: &{this} [*{last},*{last}]\n"
        for last, this in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert problems_of(laughs)[0].startswith("1: anchors and aliases (here a)")


def test_a_tree_of_sound_text_has_no_problems():
    problems = Problems("f")
    assert compose(EXAMPLE, problems) is not None
    assert problems.found == []


@pytest.mark.parametrize(
    "text", ["[" * TEXT_CHARS_MAX, "- " * (TEXT_CHARS_MAX // 2), "? " * 30_000]
)
def test_deep_nesting_is_refused_not_followed(text):
    assert problems_of(text) == ["1: more than 12 levels are nested here; write fewer"]


@given(st.text())
def test_shown_texts_are_short_and_on_one_line(text):
    shown = shown_text(text)
    assert shown.isprintable()
    assert len(shown) < 450


def problems_or_none(text: str) -> tuple[str, ...]:
    """What parse_cluster says; anything but SpecError fails the test that asks."""
    try:
        parse_cluster(text)
    except SpecError as error:
        assert error.problems  # noqa: PT017 - the property is about both outcomes
        return error.problems
    return ()


def says_where(problem: str, text: str) -> bool:
    """Whether a problem has the form file:line: sentence; advice, with a line of the text."""
    source, line, sentence = problem.split(":", 2)
    lines = len(text.splitlines()) + 1
    return source == "cluster.yaml" and 1 <= int(line) <= lines and "; " in sentence


YAMLISH = st.text(
    st.sampled_from([*"abn01:-,[]{}&*!|>'\"#%@`?\\ \n\t\r", "\x85", "\ufeff", "\u2028", "é"]),
    max_size=60,
)
WORDS = st.lists(
    st.sampled_from(
        ["nodes", "seed", "name", ": ", ":", "\n", "\n  ", "- ", "{", "}", "[", "]", ",", "3",
         "-1", "5s", "null", "~", "&a ", "*a", "!!int ", "<<", "---\n", "...\n", "'", '"', "|\n",
         "restart", "policy", "%YAML 9.9\n", "%TAG ! x\n", "count", "addr", "localhost:8081"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@given(st.text() | YAMLISH | WORDS)
def test_any_text_is_a_spec_or_problems_that_say_where(text):
    assert all(says_where(problem, text) for problem in problems_or_none(text))


@given(
    st.integers(0, len(EXAMPLE) - 1),
    st.integers(0, 30),
    st.sampled_from(["", " ", "\n", "\t", ":", "- ", "[", "}", "'", "&a", "-3", "x", "\\", "\x07"]),
)
def test_a_damaged_example_is_a_spec_or_problems_that_say_where(start, length, text):
    damaged = EXAMPLE[:start] + text + EXAMPLE[start + length :]
    assert all(says_where(problem, damaged) for problem in problems_or_none(damaged))
