"""Pure: common/errors.py; what doors and links may rely on of every class in the tree."""

import inspect

import pytest

from common import errors
from common.errors import CallerError, LoadError, ModelError, Overloaded, PipelineError, WireError

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_says_when_it_is_raised_and_has_a_code_and_a_status(kind: type) -> None:
    assert issubclass(kind, PipelineError)
    assert (kind.__doc__ or "").startswith("Raised when ")
    assert kind.code == kind.code.lower()
    assert kind.code.isidentifier()
    assert kind.status in (200, 400, 401, 403, 404, 409, 413, 415, 429, 499, 500, 503, 504, 507)


def test_a_code_stands_for_one_class_and_those_that_only_narrow_it() -> None:
    first: dict[str, type] = {}
    for kind in sorted(TREE, key=lambda kind: len(kind.__mro__)):
        assert issubclass(kind, first.setdefault(kind.code, kind))


def test_the_first_split_is_by_blame() -> None:
    assert {kind.__name__: kind.status for kind in TREE if issubclass(kind, CallerError)} == {
        "CallerError": 400,
        "Forbidden": 403,
        "InvalidRequest": 400,
        "ModelNotFound": 404,
        "NoWeights": 200,
        "NotFound": 404,
        "RateLimited": 429,
        "RequestCancelled": 499,
        "TooLarge": 413,
        "Unauthenticated": 401,
        "UnsupportedMedia": 415,
        "WindowFull": 429,
    }
    assert {kind.status for kind in TREE if issubclass(kind, Overloaded)} == {503}


@pytest.mark.parametrize("kind", [ModelError, LoadError])
def test_a_trace_is_at_least_the_message(kind: type[ModelError] | type[LoadError]) -> None:
    assert (str(kind("no")), kind("no").trace) == ("no", "no")
    assert (str(kind("no", "Traceback …")), kind("no", "Traceback …").trace) == ("no", "Traceback …")


def test_a_wire_error_keeps_the_frame() -> None:
    assert (str(WireError("no", b"\1\2")), WireError("no", b"\1\2").frame) == ("no", b"\1\2")
    assert WireError("no").frame == b""
