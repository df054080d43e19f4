"""Every error has a status and a problem body."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from fuyun.domain import errors
from fuyun.domain.errors import FuyunError
from fuyun.transports.web.problems import problem, problem_answer
from fuyun.transports.web.statuses import STATUSES, status_of


def tree(kind: type[FuyunError]) -> list[type[FuyunError]]:
    return [kind, *(leaf for below in kind.__subclasses__() for leaf in tree(below))]


TREE = [kind for kind in tree(FuyunError) if kind.__module__ == errors.__name__]


def test_the_table_has_exactly_the_codes_of_the_tree() -> None:
    assert set(STATUSES) == {kind.code for kind in TREE}
    assert len({kind.code for kind in TREE}) == len(TREE)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.code)
def test_statuses_fit_who_must_act(kind: type[FuyunError]) -> None:
    status = status_of(kind)
    assert HTTPStatus(status).phrase
    if issubclass(kind, errors.CallerError):
        assert 400 <= status < 500 or status in (501, 505, 508)
    elif kind is not errors.BuildFailed:
        assert 500 <= status < 600


def test_a_problem_has_its_fields_and_headers() -> None:
    error = errors.MethodNotAllowed("no PUT here", hint="use GET", allowed=["GET", "HEAD"])
    status, headers, body = problem_answer(error, "a" * 32)
    assert (status, headers) == (405, {"allow": "GET, HEAD"})
    assert json.loads(body) == {
        "type": "urn:fuyun:error:method_not_allowed",
        "title": "Method Not Allowed",
        "status": 405,
        "code": "method_not_allowed",
        "detail": "no PUT here",
        "hint": "use GET",
        "request_id": "a" * 32,
        "allowed": ["GET", "HEAD"],
    }


def test_fields_cannot_forge_the_problem_and_anything_can_be_written() -> None:
    error = errors.Throttled(
        "busy", hint="", status=200, code="ok", retry_after_s=0.2, nothing=None, odd={1, 2}, kind=int
    )
    made = problem(error, "r")
    assert (made["status"], made["code"]) == (429, "throttled")
    assert "nothing" not in made
    status, headers, body = problem_answer(error, "r")
    assert (status, headers) == (429, {"retry-after": "1"})
    assert "class 'int'" in json.loads(body)["kind"]
