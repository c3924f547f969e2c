from __future__ import annotations

import inspect

import pytest

from kvlab import errors
from kvlab.errors import KvlabError

CLASSES = [
    one
    for _, one in inspect.getmembers(errors, inspect.isclass)
    if issubclass(one, Exception) and one.__module__ == errors.__name__
]
CODES = {
    "KvlabError": 5,
    "UsageError": 2,
    "SpecError": 2,
    "InvalidError": 1,
    "UnknownError": 3,
    "VacuousError": 4,
    "InfraError": 5,
    "NotRunningError": 5,
    "PortTakenError": 5,
    "ClientError": 5,
    "DefiniteError": 5,
    "UncertainError": 5,
}


def test_every_class_has_its_place_in_the_tree_and_its_exit_code():
    assert {one.__name__: one.exit_code for one in CLASSES} == CODES
    assert all(issubclass(one, KvlabError) for one in CLASSES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda one: one.__name__)
def test_an_error_carries_a_sentence_and_says_what_to_do_next(kind):
    error = kind("it is broken", hint="mend it")

    assert (str(error), error.message, error.hint) == ("it is broken", "it is broken", "mend it")
    assert kind("it is broken").hint == ""
    assert inspect.getdoc(kind)


def test_what_certainly_did_not_happen_is_never_taken_for_what_may_have():
    assert not issubclass(errors.DefiniteError, errors.UncertainError)
    assert not issubclass(errors.UncertainError, errors.DefiniteError)
    assert errors.UncertainError("?", code="UNKNOWN").code == "UNKNOWN"
    assert errors.DefiniteError("no").code == ""


def test_a_wrong_file_lists_every_problem():
    assert errors.SpecError("two problems", problems=("a", "b")).problems == ("a", "b")
    assert errors.SpecError("none listed").problems == ()


def test_the_tree_in_the_docstring_names_every_class():
    assert errors.__doc__ is not None
    assert all(one.__name__ in errors.__doc__ for one in CLASSES)
