"""Who may ask what, and from where: keys, methods, cross-origin rules, what strangers see."""

from __future__ import annotations

import json

import httpx

from fuyun.domain.errors import FunctionRaised, Unauthenticated
from fuyun.domain.functions import Cors
from fuyun.domain.tenants import Principal
from fuyun.transports.gateway.server import Gateway
from tests.transports.gateway.fakes import (
    KEYS,
    LAST,
    FakeInvoker,
    ask,
    failing,
    hello,
    request,
    run,
    whole,
)


def test_a_stranger_does_not_see_the_functions_traceback() -> None:
    async def main() -> None:
        error = FunctionRaised("ValueError: secret", traceback=["handler.py line 3"], error_type="ValueError")
        invoker = FakeInvoker()
        invoker.add("/open", failing(error), auth="public")
        invoker.add("/keyed", failing(error), auth="key")
        stranger, holder = await ask(
            invoker, request("GET", "/open") + request("GET", "/keyed", Fuyun_Key="fk_a_1", **LAST)
        )
        assert stranger.status == holder.status == 502
        assert json.loads(stranger.body)["code"] == "function_raised"
        assert b"secret" not in stranger.body
        assert b"handler.py" not in stranger.body
        assert json.loads(holder.body)["traceback"] == ["handler.py line 3"]

    run(main)


def test_keys() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello, auth="key")
        cases = [
            ({}, 401),
            ({"Authorization": "Bearer fk_nobody_1"}, 401),
            ({"Authorization": "Basic eDp5"}, 401),
            ({"Authorization": "Bearer fk_v_1"}, 403),
            ({"Authorization": "Bearer fk_o_1"}, 403),
            ({"Authorization": "Bearer fk_a_1"}, 200),
            ({"authorization": "bearer  fk_a_1"}, 200),
            ({"Fuyun-Key": "fk_a_1", "Authorization": "Basic eDp5"}, 200),
        ]
        raw = b"".join(request(**headers) for headers, _ in cases) + request(**LAST)
        found = await ask(invoker, raw)
        assert [answer.status for answer in found] == [status for _, status in cases] + [401]
        assert found[0].get("www-authenticate").startswith("Bearer")
        seen = [flight.headers for flight in invoker.flights]
        assert seen == [[("host", "a")], [("host", "a")], [("host", "a"), ("authorization", "Basic eDp5")]]

    run(main)


def test_only_a_key_of_the_namespace_learns_which_names_it_has() -> None:
    """Everyone else is told the same of a name that is there and of one that is not, headers included."""

    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/fn/default/there", hello, auth="key")

        async def told(path: str, **headers: str) -> tuple[int, dict[str, object], list[tuple[str, str]]]:
            (answer,) = await ask(invoker, request("GET", path, **headers, **LAST))
            varying = {"date", "fuyun-request-id", "content-length"}
            body = {**json.loads(answer.body), "request_id": ""} if answer.status >= 400 else {}
            return answer.status, body, [field for field in answer.headers if field[0].lower() not in varying]

        for key in ({}, {"Fuyun_Key": "fk_nobody_1"}, {"Fuyun_Key": "fk_o_1"}, {"Authorization": "Basic eDp5"}):
            there = await told("/fn/default/there", **key)
            gone = await told("/fn/default/gone", **key)
            assert json.loads(json.dumps(gone).replace("/gone", "/there")) == json.loads(json.dumps(there))
            assert there[0] in (401, 403)
        assert (await told("/fn/default/gone", Fuyun_Key="fk_a_1"))[0] == 404
        assert (await told("/nowhere"))[0] == 404

    run(main)


def test_a_public_function_gets_its_own_authorization_but_never_a_fuyun_key() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello)
        raw = request(Authorization="Bearer eyJ") + request(Authorization="Bearer fk_a_1", Fuyun_Key="fk_a_1", **LAST)
        await ask(invoker, raw)
        assert ("authorization", "Bearer eyJ") in invoker.flights[0].headers
        assert invoker.flights[1].headers == [("host", "a")]

    run(main)


def test_a_revoked_key_ends_at_once_on_an_open_connection() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello, auth="key")
        valid = {"fk_a_1": KEYS["fk_a_1"]}

        def look_up(token: str) -> Principal:
            if token not in valid:
                raise Unauthenticated("gone")
            return valid[token]

        gateway = Gateway(invoker, look_up)
        base = f"http://127.0.0.1:{await gateway.start()}"
        try:
            async with httpx.AsyncClient(base_url=base, headers={"Fuyun-Key": "fk_a_1"}, verify=False) as client:
                assert (await client.get("/f")).status_code == 200
                valid.clear()
                assert (await client.get("/f")).status_code == 401
            assert gateway.stats.accepted == 1
        finally:
            await gateway.drain(0)

    run(main)


def test_methods_of_a_route() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        invoker.add("/f", hello, methods=("GET", "POST"))
        found = await ask(invoker, request("PUT", "/f", b"xyz") + request("HEAD") + request(**LAST), "PUT", "HEAD")
        assert [answer.status for answer in found] == [405, 200, 200]
        assert found[0].get("allow") == "GET, HEAD, POST"

    run(main)


def test_cors() -> None:
    async def main() -> None:
        invoker = FakeInvoker()
        chosen = [("Access-Control-Allow-Origin", "function"), ("X-A", "1")]
        invoker.add("/any", whole(lambda _: (200, chosen, b"")), cors=Cors(), methods=("GET",), auth="key")
        listed = Cors(
            allow_origins=("https://a.example",),
            allow_methods=("GET", "PUT"),
            allow_headers=("x-one",),
            expose_headers=("x-two",),
            allow_credentials=True,
            max_age_s=60,
        )
        invoker.add("/listed", whole(lambda _: (200, chosen, b"")), cors=listed)
        asks = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-a, x-b"}
        raw = (
            request("OPTIONS", "/any", Origin="https://q.example", **asks)
            + request("GET", "/any", Origin="https://q.example", Fuyun_Key="fk_a_1")
            + request("GET", "/any", Origin="https://q.example")
            + request("OPTIONS", "/listed", Origin="https://a.example", **asks)
            + request("GET", "/listed", Origin="https://a.example")
            + request("OPTIONS", "/listed", Origin="https://evil.example", **asks)
            + request("GET", "/listed", Origin="https://evil.example")
            + request("OPTIONS", "/listed", **LAST)
        )
        found = await ask(invoker, raw, "OPTIONS", "GET", "GET", "OPTIONS", "GET", "OPTIONS", "GET", "OPTIONS")
        pre, plain, refused, listed_pre, listed_plain, evil_pre, evil_plain, bare = found
        assert pre.status == 204
        assert pre.get("access-control-allow-origin") == "*"
        assert pre.get("access-control-allow-methods") == "GET"
        assert pre.get("access-control-allow-headers") == "x-a, x-b"
        assert pre.get("access-control-max-age") == "600"
        assert plain.get("access-control-allow-origin") == "*"
        assert plain.get("x-a") == "1"
        assert refused.status == 401
        assert refused.get("access-control-allow-origin") == "*"
        assert listed_pre.get("access-control-allow-methods") == "GET, PUT"
        assert listed_pre.get("access-control-allow-headers") == "x-one"
        assert listed_pre.get("access-control-allow-credentials") == "true"
        assert listed_pre.get("access-control-max-age") == "60"
        assert listed_plain.get("access-control-allow-origin") == "https://a.example"
        assert listed_plain.get("access-control-expose-headers") == "x-two"
        assert listed_plain.get("vary") == "Origin"
        for answer in (evil_pre, evil_plain, bare):
            assert answer.all("access-control-allow-origin") == []
        assert [flight.method for flight in invoker.flights] == ["GET", "GET", "GET", "OPTIONS"]

    run(main)
