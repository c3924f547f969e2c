from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvlab.cli.repl_words import quote, split_words
from kvlab.errors import UsageError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.lists(texts, max_size=5))
@example(["", "#", " ", "\u2028", "\x85", "\x00", "'", '"', "\\", "ä€😀", "\\x"])
def test_quoted_words_come_back(words):
    line = " ".join(quote(word) for word in words)
    assert split_words(line) == words
    assert line.isprintable()


@given(texts)
def test_a_quoted_word_is_not_a_comment(text):
    assert not quote(text).startswith("#")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_line_is_split_or_explained(line):
    try:
        words = split_words(line)
    except UsageError as error:
        explained = bool(error.message and error.hint)
    else:
        explained = split_words(" ".join(map(quote, words))) == words
    assert explained


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("  \t ", []),
        ("SET a b", ["SET", "a", "b"]),
        ('SET a "b c"', ["SET", "a", "b c"]),
        ("SET a 'b \"c\" \\n'", ["SET", "a", 'b "c" \\n']),
        (r'"a\n\t\"\\\x41é\U0001f600\0"', ['a\n\t"\\Aé😀\0']),
        (r"a\ b\"c", ['a b"c']),
        ("""a"b c"'d e'f""", ["ab cd ef"]),
        ('""', [""]),
        ("a '' b", ["a", "", "b"]),
        ("it's a test'", ["its a test"]),
    ],
)
def test_examples(line, words):
    assert split_words(line) == words


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('SET a "b', "never closed"),
        ("SET a 'b", "never closed"),
        ("SET a b\\", "ends with a backslash"),
        (r'"\q"', r"\q is not an escape"),
        (r'"\x4"', "is not an escape"),
        (r'"\ud800"', "is not an escape"),
        (r'"\U00110000"', "is not an escape"),
        (r'"C:\new\zoo"', r"\z is not an escape"),
    ],
)
def test_mistakes_are_named(line, message):
    with pytest.raises(UsageError) as caught:
        split_words(line)
    assert message in caught.value.message
    assert caught.value.hint


def test_plain_words_stay_plain():
    assert quote("user:42/ä") == "user:42/ä"
    assert quote("a b") == '"a b"'
    assert quote("") == '""'
    assert quote("\x1b[31m") == '"\\u001b[31m"'
