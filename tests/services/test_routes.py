"""The routing table: names, versions, aliases and trigger paths."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.domain.errors import Conflict, NotFound
from fuyun.domain.functions import Cors, FunctionSpec
from fuyun.services.routes import RouteTable
from tests.services.platforms import MemoryCatalog, http


def table(*fill: Callable[[MemoryCatalog], object]) -> RouteTable:
    """A table of what the calls put into a catalog."""
    catalog = MemoryCatalog()
    for each in fill:
        each(catalog)
    found = RouteTable(catalog)  # type: ignore[arg-type]
    asyncio.run(found.open())
    return found


def test_names() -> None:
    routes = table(
        lambda c: c.put("f"), lambda c: c.put("f", 3, payload_bytes=9), lambda c: c.alias("f", "live", {3: 100})
    )
    for qualifier, number, alias in (("", 0, ""), ("$LATEST", 0, ""), ("3", 3, ""), ("live", 3, "live")):
        route = routes.resolve("default", "f", qualifier)
        assert route.choices[0][1].number == number
        assert route.alias == alias
        assert route.auth == "key"
    assert routes.resolve("default", "f", "3").payload_bytes == 9
    for path, base in (
        ("/fn/default/f", "/fn/default/f"),
        ("/fn/default/f/", "/fn/default/f"),
        ("/fn/default/f/a/b", "/fn/default/f"),
        ("/fn/default/f:live/a", "/fn/default/f:live"),
        ("/fn/default/f:%24LATEST/x", "/fn/default/f:%24LATEST"),
        ("/fn/default/%66", "/fn/default/%66"),
    ):
        for _ in range(2):  # the second time from memory
            route = routes.match(path)
            assert (route.function, route.base) == ("f", base)


@pytest.mark.parametrize(
    "path",
    ["/", "", "/fn/", "/fn/default", "/fn//f", "/fn/default/", "/fn/default/g", "/fn/other/f", "/fn/default/f:nope",
     "/fn/default/f%2Fg", "/fnx/default/f", "/fn/default/f:live:live"],
)  # fmt: skip
def test_what_names_nothing_is_not_found(path: str) -> None:
    routes = table(lambda c: c.put("f"), lambda c: c.alias("f", "live", {0: 100}))
    with pytest.raises(NotFound):
        routes.match(path)


def test_a_near_miss_is_pointed_out() -> None:
    routes = table(lambda c: c.put("f"), lambda c: c.alias("f", "live", {0: 100}))
    with pytest.raises(NotFound) as caught:
        routes.resolve("default", "f", "life")
    assert "'live'" in caught.value.hint


@pytest.mark.parametrize("path", ["/fn/default/nope", "/fn/default/f:nope", "/fn/default/%66:nope/below"])
def test_a_name_that_is_missing_says_of_whom_it_would_be(path: str) -> None:
    """The gateway asks for a key of that namespace before it tells."""
    with pytest.raises(NotFound) as caught:
        table(lambda c: c.put("f")).match(path)
    assert caught.value.fields["namespace"] == "default"
    assert caught.value.fields["function"] == ("f" if ":" in path else "nope")


def test_trigger_paths() -> None:
    cors = Cors(allow_origins=("https://a",))
    routes = table(
        lambda c: c.put("exact", triggers=http("/a", auth="public", methods=("get",), cors=cors)),
        lambda c: c.put("wide", triggers=http("/a/*")),
        lambda c: c.put("wider", triggers=http("/*")),
        lambda c: c.put("deep", triggers=http("/a/b/*")),
    )
    for path, function in (
        ("/a", "exact"), ("/a/", "wide"), ("/a/x", "wide"), ("/a/b", "deep"), ("/a/b/c", "deep"), ("/a/bc", "wide"),
        ("/ab", "wider"), ("/", "wider"), ("/x/y", "wider"),
    ):  # fmt: skip
        assert routes.match(path).function == function, path
    exact = routes.match("/a")
    assert (exact.auth, exact.methods, exact.cors) == ("public", frozenset({"GET"}), cors)
    assert routes.match("/fn/default/exact").auth == "key"


def test_a_trigger_sends_to_its_alias() -> None:
    routes = table(
        lambda c: c.put("f", 0, triggers=http("/f", alias="live")), lambda c: c.put("f", 1),
        lambda c: c.alias("f", "live", {1: 100}), lambda c: c.put("g", triggers=http("/g", alias="nope")),
    )  # fmt: skip
    assert routes.match("/f").choices[0][1].number == 1
    with pytest.raises(NotFound):
        routes.match("/g")


def test_one_path_belongs_to_one_function() -> None:
    routes = table(
        lambda c: c.put("a", triggers=http("/p")), lambda c: c.put("b", triggers=http("/p")),
        lambda c: c.put("w", triggers=http("/w/*")),
    )  # fmt: skip
    assert routes.match("/p").function == "a"
    spec = FunctionSpec(triggers=http("/p"))
    routes.check_triggers("default", "a", spec)
    with pytest.raises(Conflict, match="function 'a'"):
        routes.check_triggers("default", "c", spec)
    with pytest.raises(Conflict, match="another namespace"):
        routes.check_triggers("other", "a", spec)
    routes.check_triggers("other", "a", FunctionSpec(triggers=http("/w")))  # the exact path is still free
    with pytest.raises(Conflict):
        routes.check_triggers("other", "a", FunctionSpec(triggers=http("/w/*")))


def test_versions_with_traffic() -> None:
    routes = table(
        lambda c: c.put("bare"),
        lambda c: [c.put("f", number) for number in (0, 1, 2, 3)],
        lambda c: c.alias("f", "live", {1: 100}), lambda c: c.alias("f", "next", {2: 100, 1: 0}),
        lambda c: [c.put("g", number, triggers=http("/g") if not number else ()) for number in (0, 1)],
        lambda c: c.alias("g", "live", {1: 100}),
    )  # fmt: skip
    pinned = {key.split("/")[1] for key, (_, pinned) in routes.versions().items() if pinned}
    assert pinned == {"bare@0.1", "f@1", "f@2", "g@0.1", "g@1"}


def test_what_was_loaded_again() -> None:
    catalog = MemoryCatalog()

    async def main() -> None:
        routes = RouteTable(catalog)  # type: ignore[arg-type]
        await routes.open()
        catalog.put("f", triggers=http("/f"))
        await routes.load("default", "f")
        first = routes.match("/f").choices[0][1]
        assert routes.match("/fn/default/f").choices[0][1] is first
        catalog.put("f", triggers=http("/new"))
        await routes.load("default", "f")
        assert routes.match("/new").choices[0][1].revision == 2
        assert routes.match("/fn/default/f").choices[0][1].revision == 2
        with pytest.raises(NotFound):
            routes.match("/f")
        catalog.delete("f")
        await routes.load("default", "f")
        for path in ("/new", "/fn/default/f"):
            with pytest.raises(NotFound):
                routes.match(path)
        assert routes.versions() == {}
        assert routes.routes() == []

    asyncio.run(main())


def test_many_functions_and_versions_are_read_in_pages() -> None:
    catalog = MemoryCatalog()
    for number in range(1100):
        catalog.put(f"f{number:04}")
    for number in range(1, 1100):
        catalog.put("f0000", number)
    routes = RouteTable(catalog)  # type: ignore[arg-type]
    asyncio.run(_awaited(routes.open()))
    assert len(routes.versions()) == 1100 + 1099
    assert routes.resolve("default", "f1099", "").function == "f1099"
    assert routes.resolve("default", "f0000", "1099").choices[0][1].number == 1099


async def _awaited(what: Awaitable[None]) -> None:
    await what


PIECES = ("/fn", "/fn/default", "/fn/default/f", "/default", "/f", "/p", "/", "f", "p", ":", "live", "$LATEST", "0",
          "x", "%66", "%2F", "%3A", "%24", "/fn/other")  # fmt: skip


def meant(path: str) -> tuple[str, str, str] | None:
    """Function, qualifier and base of a path, read from the rule in `invoking.Invoker.match` by regular expressions."""
    if not path.startswith("/fn/"):
        return ("p", "$LATEST", "/p") if re.fullmatch("/p(/.*)?", path, re.DOTALL) else None
    whole = re.fullmatch("(/fn/[^/]*(?:/[^/]*)?)(/.*)?", path, re.DOTALL)
    assert whole
    named = re.fullmatch(r"/fn/default/(f|p)(?::(\$LATEST|)|:live(?<=f:live))?", unquote(whole[1]))
    if not named:
        return None
    return named[1], "live" if named[0].endswith("live") else "$LATEST", whole[1]


@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join) | st.text(max_size=30))
def test_any_path_leads_where_the_rule_says_or_nowhere(path: str) -> None:
    try:
        route = ROUTES.match(path)
    except NotFound:
        assert meant(path) is None
    else:
        assert meant(path) == (route.function, route.qualifier, route.base)


ROUTES = table(
    lambda c: c.put("f"), lambda c: c.put("p", triggers=http("/p/*")), lambda c: c.alias("f", "live", {0: 100})
)
