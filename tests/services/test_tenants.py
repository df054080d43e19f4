"""Tenants over the real SQLite store: keys, roles, namespaces, sealed secrets, audit."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fuyun.base import clock
from fuyun.domain.errors import BadRequest, Conflict, Forbidden, NotFound, OperatorError, Unauthenticated
from fuyun.domain.tenants import Principal, Quotas, Role
from fuyun.drivers.catalog.tenants import SqlTenants
from fuyun.drivers.sql.sqlite import Database
from fuyun.services.sealing import Sealer
from fuyun.services.tenants import PLATFORM, SECRET_BYTES, Tenants

pytestmark = pytest.mark.anyio
FROM = "127.0.0.1"


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Tenants]:
    database = await Database.open(folder / "fuyun.db")
    try:
        yield await Tenants.open(SqlTenants(database), folder / "secret.key")
    finally:
        await database.close()


async def key_of(tenants: Tenants, namespace: str, role: Role, expires_s: float | None = None) -> tuple[Principal, str]:
    _, token = await tenants.create_key(PLATFORM, namespace, role, "", expires_s, FROM)
    return tenants.authenticate(token), token


async def test_the_first_start_makes_one_admin_key(tmp_path: Path) -> None:
    async with opened(tmp_path) as tenants:
        token = await tenants.bootstrap(FROM)
        assert token is not None
        admin = tenants.authenticate(token)
        assert (admin.namespace, admin.role) == ("*", "admin")
        assert await tenants.bootstrap(FROM) is None
    async with opened(tmp_path) as tenants:
        assert await tenants.bootstrap(FROM) is None
        assert tenants.authenticate(token) == admin
        second = await tenants.bootstrap(FROM, force=True)
        assert second is not None
        assert tenants.authenticate(second).may("keys", "*")


async def test_tokens(tmp_path: Path) -> None:
    async with opened(tmp_path) as tenants:
        key, token = await tenants.create_key(PLATFORM, "default", "developer", "laptop", None, FROM)
        prefix, id_, secret = token.split("_")
        assert (prefix, id_, len(secret)) == ("fk", key.id, 48)
        for _ in range(2):
            assert tenants.authenticate(token) == Principal(key_id=key.id, namespace="default", role="developer")
        for wrong in ("", token[:-1], token + "x", token.upper(), f"fk_{key.id}_", "fk_\ud800", "\0"):
            with pytest.raises(Unauthenticated) as refused:
                tenants.authenticate(wrong)
            assert refused.value.hint
        assert await tenants.list_keys("default") == [key]
        assert await tenants.list_keys("*") == []
    for path in tmp_path.iterdir():
        assert secret.encode() not in path.read_bytes(), f"{path.name} holds the token"


async def test_revocation_takes_effect_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as tenants:
        mine, token = await key_of(tenants, "default", "admin")
        _, other = await key_of(tenants, "default", "viewer")
        await tenants.delete_key(mine, "default", mine.key_id, FROM)
        with pytest.raises(Unauthenticated):
            tenants.authenticate(token)
        tenants.authenticate(other)
        with pytest.raises(NotFound):
            await tenants.delete_key(PLATFORM, "default", mine.key_id, FROM)
    async with opened(tmp_path) as tenants:
        with pytest.raises(Unauthenticated):
            tenants.authenticate(token)


async def test_an_expired_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as tenants:
        now_s = clock.wall_s()
        for past in (now_s - 1, float("nan"), float("inf")):
            with pytest.raises(BadRequest):
                await tenants.create_key(PLATFORM, "*", "admin", "", past, FROM)
        _, token = await key_of(tenants, "*", "admin", now_s + 100)
        assert await tenants.bootstrap(FROM) is None
        monkeypatch.setattr(clock, "wall_s", lambda: now_s + 101)
        with pytest.raises(Unauthenticated, match="expired"):
            tenants.authenticate(token)
        assert await tenants.bootstrap(FROM) is not None, "without a usable key the next start makes one"


async def test_roles_and_namespaces_bound_what_a_key_may(tmp_path: Path) -> None:
    async with opened(tmp_path) as tenants:
        await tenants.create_namespace(PLATFORM, "acme", Quotas(), FROM)
        admin, _ = await key_of(tenants, "acme", "admin")
        developer, _ = await key_of(tenants, "acme", "developer")
        refused = [
            tenants.create_namespace(admin, "mine", Quotas(), FROM),
            tenants.set_quotas(admin, "acme", Quotas(), FROM),
            tenants.delete_namespace(admin, "acme", FROM),
            tenants.create_key(admin, "*", "admin", "", None, FROM),
            tenants.create_key(admin, "default", "viewer", "", None, FROM),
            tenants.create_key(developer, "acme", "viewer", "", None, FROM),
            tenants.delete_key(developer, "acme", admin.key_id, FROM),
            tenants.put_secret(admin, "default", "s", "v", FROM),
            tenants.delete_secret(admin, "default", "s", FROM),
        ]
        for call in refused:
            with pytest.raises(Forbidden):
                await call
        await tenants.create_key(admin, "acme", "viewer", "", None, FROM)
        await tenants.put_secret(developer, "acme", "s", "v", FROM)
        own, _ = await key_of(tenants, "default", "admin")
        with pytest.raises(NotFound):
            await tenants.delete_key(own, "default", admin.key_id, FROM)
        assert [entry.action for entry in await tenants.list_audit("acme")].count("key.delete") == 0


async def test_the_last_platform_key_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as tenants:
        token = await tenants.bootstrap(FROM)
        assert token is not None
        admin = tenants.authenticate(token)
        _, viewer = await key_of(tenants, "*", "viewer")
        with pytest.raises(Conflict, match="last admin key"):
            await tenants.delete_key(admin, "*", admin.key_id, FROM)
        await tenants.delete_key(admin, "*", tenants.authenticate(viewer).key_id, FROM)
        second, _ = await key_of(tenants, "*", "admin")
        await tenants.delete_key(second, "*", admin.key_id, FROM)


async def test_namespaces(tmp_path: Path) -> None:
    deleted: list[str] = []

    async def note(name: str) -> None:
        deleted.append(name)

    async with opened(tmp_path) as tenants:
        tenants.on_namespace_deleted(note)
        made = await tenants.create_namespace(PLATFORM, "acme", Quotas(concurrency=3), FROM)
        assert await tenants.get_namespace("acme") == made
        with pytest.raises(Conflict):
            await tenants.create_namespace(PLATFORM, "acme", Quotas(), FROM)
        for name in ("", "*", "Acme", "a/b", "a" * 64):
            with pytest.raises(BadRequest):
                await tenants.create_namespace(PLATFORM, name, Quotas(), FROM)
        with pytest.raises(BadRequest, match="-1"):
            await tenants.set_quotas(PLATFORM, "acme", Quotas(functions=-1), FROM)
        assert tenants.quotas("acme").concurrency == 3
        await tenants.set_quotas(PLATFORM, "acme", Quotas(concurrency=4), FROM)
        assert tenants.quotas("acme").concurrency == 4
        _, token = await key_of(tenants, "acme", "invoker")
        await tenants.put_secret(PLATFORM, "acme", "s", "v", FROM)
        await tenants.delete_namespace(PLATFORM, "acme", FROM)
        assert deleted == ["acme"]
        with pytest.raises(NotFound):
            tenants.quotas("acme")
        with pytest.raises(Unauthenticated):
            tenants.authenticate(token)
        for call in (tenants.list_keys("acme"), tenants.list_secrets("acme"), tenants.get_namespace("acme")):
            with pytest.raises(NotFound):
                await call
        await tenants.create_namespace(PLATFORM, "acme", Quotas(), FROM)
        assert await tenants.list_secrets("acme") == []


async def test_secrets_are_sealed(tmp_path: Path) -> None:
    value = "pässwort-7f3a9c"
    async with opened(tmp_path) as tenants:
        await tenants.put_secret(PLATFORM, "default", "DB_PASSWORD", value, FROM)
        await tenants.put_secret(PLATFORM, "default", "other", "x" * SECRET_BYTES, FROM)
        assert await tenants.list_secrets("default") == ["DB_PASSWORD", "other"]
        assert await tenants.reveal("default", ["DB_PASSWORD"]) == {"DB_PASSWORD": value}
        with pytest.raises(NotFound, match="DB_PASSWROD") as missing:
            await tenants.reveal("default", ["DB_PASSWROD"])
        assert "DB_PASSWORD" in missing.value.hint
        for name, bad in (("s", "x" * (SECRET_BYTES + 1)), ("s", "a\0b"), ("s", "\ud800"), ("", "v"), ("a b", "v")):
            with pytest.raises(BadRequest) as refused:
                await tenants.put_secret(PLATFORM, "default", name, bad, FROM)
            assert bad not in str(refused.value)
        await tenants.delete_secret(PLATFORM, "default", "other", FROM)
        with pytest.raises(NotFound):
            await tenants.delete_secret(PLATFORM, "default", "other", FROM)
        assert await tenants.reveal("default", []) == {}
        assert value not in str([entry.detail for entry in await tenants.list_audit("*")])
    for path in tmp_path.iterdir():
        assert value.encode() not in path.read_bytes()
    async with opened(tmp_path) as tenants:
        assert await tenants.reveal("default", ["DB_PASSWORD"]) == {"DB_PASSWORD": value}


async def test_a_sealed_secret_opens_only_in_its_place(tmp_path: Path) -> None:
    async with opened(tmp_path) as tenants:
        await tenants.create_namespace(PLATFORM, "thief", Quotas(), FROM)
        await tenants.put_secret(PLATFORM, "default", "s", "value", FROM)
        await tenants.put_secret(PLATFORM, "default", "t", "value", FROM)
    connection = sqlite3.connect(tmp_path / "fuyun.db")
    with connection:
        connection.execute("UPDATE secrets SET namespace = 'thief' WHERE name = 's'")
        connection.execute("UPDATE secrets SET sealed = X'00' WHERE name = 't'")
    connection.close()
    async with opened(tmp_path) as tenants:
        for namespace, name in (("thief", "s"), ("default", "t")):
            with pytest.raises(OperatorError, match=f"{namespace}/{name}"):
                await tenants.reveal(namespace, [name])


def test_sealing_the_same_twice_gives_different_bytes() -> None:
    sealer = Sealer(b"k" * 32)
    assert sealer.seal(b"x", "a") != sealer.seal(b"x", "a")
    assert b"kkk" not in repr(sealer).encode()


async def test_the_key_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    async with opened(tmp_path):
        pass
    assert path.stat().st_mode & 0o777 == 0o600
    first = path.read_bytes()
    async with opened(tmp_path) as tenants:
        await tenants.put_secret(PLATFORM, "default", "s", "v", FROM)
    assert path.read_bytes() == first
    path.chmod(0o640)
    with pytest.raises(OperatorError, match="0640") as refused:
        async with opened(tmp_path):
            pass
    assert "chmod 600" in refused.value.hint
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(OperatorError, match="64 hex digits"):
        async with opened(tmp_path):
            pass
    path.unlink()
    with pytest.raises(OperatorError, match="missing"):
        async with opened(tmp_path):
            pass
    assert not path.exists(), "a new key would hide that the old one is lost"
    assert [entry.name for entry in tmp_path.iterdir()] == ["fuyun.db"]


async def test_every_change_is_audited(tmp_path: Path) -> None:
    async with opened(tmp_path) as tenants:
        admin, _ = await key_of(tenants, "*", "admin")
        await tenants.create_namespace(admin, "acme", Quotas(), "10.0.0.1")
        await tenants.set_quotas(admin, "acme", Quotas(functions=1), "10.0.0.1")
        key, _ = await tenants.create_key(admin, "acme", "viewer", "ci", None, "10.0.0.1")
        await tenants.put_secret(admin, "acme", "s", "v", "10.0.0.1")
        await tenants.delete_secret(admin, "acme", "s", "10.0.0.1")
        await tenants.delete_key(admin, "acme", key.id, "10.0.0.1")
        await tenants.delete_namespace(admin, "acme", "10.0.0.1")
        entries = await tenants.list_audit("acme")
        assert [(entry.action, entry.target) for entry in entries] == [
            ("namespace.create", "acme"), ("namespace.quotas", "acme"), ("key.create", key.id), ("secret.put", "s"),
            ("secret.delete", "s"), ("key.delete", key.id), ("namespace.delete", "acme"),
        ]  # fmt: skip
        assert {(entry.key_id, entry.source) for entry in entries} == {(admin.key_id, "10.0.0.1")}
        assert await tenants.list_audit("acme", after=entries[1].id, limit=2) == entries[2:4]
        assert (await tenants.list_audit("*"))[0].key_id == PLATFORM.key_id
