"""Who may do what."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuyun.domain.errors import Forbidden
from fuyun.domain.tenants import ROLE_ACTIONS, Principal, Quotas, Role

ACTIONS = sorted(set().union(*ROLE_ACTIONS.values()))


def principal(role: Role, namespace: str = "shop") -> Principal:
    return Principal(key_id="k1", namespace=namespace, role=role)


@pytest.mark.parametrize(
    ("role", "action", "allowed"),
    [
        ("admin", "keys", True),
        ("admin", "namespaces", True),
        ("developer", "deploy", True),
        ("developer", "invoke", True),
        ("developer", "keys", False),
        ("invoker", "invoke", True),
        ("invoker", "read", False),
        ("viewer", "read", True),
        ("viewer", "invoke", False),
        ("viewer", "deploy", False),
    ],
)
def test_roles(role: Role, action: str, allowed: bool) -> None:
    assert principal(role).may(action, "shop") is allowed


def test_every_role_has_its_actions_and_admin_has_all() -> None:
    assert set(ROLE_ACTIONS) == set(get_args(Role))
    assert all(actions <= ROLE_ACTIONS["admin"] for actions in ROLE_ACTIONS.values())


@given(
    role=st.sampled_from(get_args(Role)),
    action=st.sampled_from(ACTIONS),
    home=st.sampled_from(["shop", "blog", "*"]),
    target=st.sampled_from(["shop", "blog", "*"]),
)
def test_a_key_never_reaches_beyond_its_namespace(role: Role, action: str, home: str, target: str) -> None:
    who = principal(role, home)
    allowed = who.may(action, target)
    assert allowed == (action in ROLE_ACTIONS[role] and (home in ("*", target)))
    if allowed:
        who.require(action, target)
    else:
        with pytest.raises(Forbidden):
            who.require(action, target)


def test_a_refusal_does_not_say_what_exists() -> None:
    with pytest.raises(Forbidden) as raised:
        principal("viewer").require("deploy", "blog")
    assert raised.value.detail == "this key may not deploy in namespace 'blog'"
    assert "viewer of 'shop'" in raised.value.hint
    assert "exist" not in raised.value.detail + raised.value.hint


def test_quotas_survive_the_wire_and_refuse_other_shapes() -> None:
    quotas = Quotas(functions=0, memory_bytes=5)
    assert msgspec.json.decode(msgspec.json.encode(quotas), type=Quotas) == quotas
    for bad in (b'{"functions": 1.5}', b'{"functions": "10"}', b'{"functions": null}', b'{"funtions": 1}'):
        with pytest.raises(msgspec.ValidationError, match="fun"):
            msgspec.json.decode(bad, type=Quotas)
