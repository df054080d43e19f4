"""Namespaces, keys, secrets and the audit log. Authenticates from memory; every change is durable and audited.

Changes take the principal that asks and the address it asks from, check what it may do, and write the change and its
audit entry in one transaction. Reads take no principal: whoever offers them checks (`Principal.require`).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Self

from fuyun.base import clock, ids
from fuyun.domain.errors import BadRequest, Conflict, NotFound, Unauthenticated
from fuyun.domain.names import check_name, check_secret_name, nearest
from fuyun.domain.tenants import ROLE_ACTIONS, AuditEntry, Key, Namespace, Principal, Quotas, Role
from fuyun.ports.tenants import TenantStore
from fuyun.services.sealing import Sealer, load_key

#: Bytes of one secret's value. Certificates and service accounts fit; files belong into objects.
SECRET_BYTES = 64 * 1024
#: Who made the changes that no key made: the platform itself, on behalf of whoever may start it.
PLATFORM = Principal(key_id="platform", namespace="*", role="admin")


class Tenants:
    """One per platform; the truth is in the store, a copy of what requests need is in memory."""

    def __init__(self, store: TenantStore, secret_file: Path) -> None:
        self._store = store
        self._secret_file = secret_file
        self._sealer: Sealer | None = None
        self._namespaces: dict[str, Namespace] = {}
        self._keys: dict[bytes, tuple[Key, Principal]] = {}  # by SHA-256 of the token
        self._access: bytes = b""  # what secrets of access keys are derived from
        self._ids: dict[str, bytes] = {}  # SHA-256 of the token by the key's id
        self._known: dict[str, Principal] = {}  # tokens seen, whose keys do not expire: one look-up per request
        self._sealed: dict[str, dict[str, bytes]] = {}
        self._before_deleted: list[Callable[[str], Awaitable[None]]] = []
        self._on_deleted: list[Callable[[str], Awaitable[None]]] = []

    @classmethod
    async def open(cls, store: TenantStore, secret_file: Path) -> Self:
        """Read everything; OperatorError when sealed secrets exist and their key file does not."""
        tenants = cls(store, secret_file)
        await tenants.reload()
        sealed = any(tenants._sealed.values())
        key = await asyncio.to_thread(load_key, secret_file, not sealed)
        tenants._access = hmac.digest(key, b"secrets of access keys", "sha256")
        return tenants

    async def reload(self) -> None:
        """Read everything again (another process changed it)."""
        self._namespaces = {namespace.name: namespace for namespace in await self._store.list_namespaces()}
        self._sealed = {name: await self._store.list_secrets(name) for name in self._namespaces}
        self._keys = {digest: (key, _principal(key)) for key, digest in await self._store.list_keys()}
        self._ids = {key.id: digest for digest, (key, _) in self._keys.items()}
        self._known = {}

    def before_namespace_deleted(self, call: Callable[[str], Awaitable[None]]) -> None:
        """Have `call(namespace)` awaited before a namespace is deleted; what it raises refuses."""
        self._before_deleted.append(call)

    def on_namespace_deleted(self, call: Callable[[str], Awaitable[None]]) -> None:
        """Have `call(namespace)` awaited after a namespace was deleted, so that its name can be given to another."""
        self._on_deleted.append(call)

    # --- keys ------------------------------------------------------------------------------------------------------

    def authenticate(self, token: str) -> Principal:
        """Who holds `token`. Never waits. Unauthenticated when it is unknown, revoked, expired or empty."""
        known = self._known.get(token)
        return known if known is not None else self._look_up(token)

    def _look_up(self, token: str) -> Principal:
        found = self._keys.get(hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest())
        if found is None:
            if not token:
                raise Unauthenticated(
                    "the request carries no key", hint="send `Authorization: Bearer fk_...` or `Fuyun-Key: fk_...`"
                )
            if token.startswith("fc_"):
                raise Unauthenticated(
                    "this is a function's own credential; it is good at the address inside its instance only",
                    hint="ask at FUYUN_ENDPOINT, or use a key of `fuyun key create`",
                )
            raise Unauthenticated("the key is not known, or was revoked", hint="use a key of `fuyun key create`")
        key, principal = found
        if key.expires_s is None:
            self._known[token] = principal
        elif key.expires_s <= clock.wall_s():
            raise Unauthenticated("the key has expired", hint="make a new one with `fuyun key create`")
        return principal

    def access(self, key_id: str) -> Principal:
        """Whose access key `key_id` is: the id of a key. Unauthenticated when it is unknown, revoked or expired."""
        found = self._keys.get(self._ids.get(key_id, b""))
        if found is None or (found[0].expires_s is not None and found[0].expires_s <= clock.wall_s()):
            raise Unauthenticated(
                f"access key {key_id[:40]!r} is not known, was revoked or has expired",
                hint="use one of `fuyun key s3 ID`", reason="InvalidAccessKeyId",
            )  # fmt: skip
        return found[1]

    def access_secret(self, key_id: str) -> str:
        """The secret that signs for an access key. It is derived, so that nothing of it is stored: from the platform's
        own key (`sealing.load_key`), which whoever has it could open every secret with anyway. As `access`."""
        self.access(key_id)
        return hmac.digest(self._access, key_id.encode(), "sha256").hex()[:40]

    def reveal_access(self, principal: Principal, namespace: str, key_id: str) -> str:
        """The secret of a key of exactly this namespace, for whoever holds it or may make such keys. NotFound,
        Forbidden."""
        if principal.key_id != key_id:
            principal.require("keys", namespace)
        found = self._keys.get(self._ids.get(key_id, b""))
        if found is None or found[0].namespace != namespace:
            raise NotFound(
                f"there is no key {key_id!r} in namespace {namespace!r}", hint="list the keys", kind="key", name=key_id
            )
        return self.access_secret(key_id)

    def derived(self, purpose: str) -> bytes:
        """32 bytes for a purpose: the same whenever they are asked for, and nobody guesses them without the platform's
        own key."""
        return hmac.digest(self._access, f"derived for {purpose}".encode(), "sha256")

    async def bootstrap(self, source: str, force: bool = False) -> str | None:
        """The token of a new platform key when there is no usable one yet (or `force`), else None."""
        if not force and self._platform_keys():
            return None
        _, token = await self.create_key(PLATFORM, "*", "admin", "first" if not force else "local", None, source)
        return token

    async def create_key(
        self, principal: Principal, namespace: str, role: Role, name: str, expires_s: float | None, source: str
    ) -> tuple[Key, str]:
        """A key and its token, which is stored nowhere. `expires_s` is wall-clock seconds. BadRequest, NotFound."""
        principal.require("keys", namespace)
        if role not in ROLE_ACTIONS:
            raise BadRequest(f"{role!r} is no role", hint=f"use one of {', '.join(ROLE_ACTIONS)}", path="role")
        if len(name) > 200 or not name.isprintable():
            raise BadRequest("a key's name is up to 200 printable characters", path="name")
        now_s = clock.wall_s()
        if expires_s is not None and not now_s < expires_s < 32503680000:
            raise BadRequest(
                f"expires_s {expires_s:g} is not in the future", hint=f"now is {now_s:.0f}", path="expires_s"
            )
        if namespace != "*":
            await self.get_namespace(namespace)
        key = Key(
            id=secrets.token_hex(6), namespace=namespace, role=role, name=name, created_s=now_s, expires_s=expires_s
        )
        token = f"fk_{key.id}_{secrets.token_hex(24)}"
        digest = hashlib.sha256(token.encode()).digest()
        entry = entry_of(principal, namespace, "key.create", key.id, source, f"{role} {name}".strip())
        await self._store.create_key(key, digest, entry)
        self._keys[digest] = (key, _principal(key))
        self._ids[key.id] = digest
        return key, token

    async def list_keys(self, namespace: str) -> list[Key]:
        """Keys of exactly this namespace (`*`: the platform's), by id."""
        if namespace != "*":
            await self.get_namespace(namespace)
        return sorted((key for key, _ in self._keys.values() if key.namespace == namespace), key=lambda key: key.id)

    async def delete_key(self, principal: Principal, namespace: str, key_id: str, source: str) -> None:
        """Revoke: once this returns the token is refused. NotFound; Conflict for the last key of the platform."""
        principal.require("keys", namespace)
        if key_id not in {key.id for key in await self.list_keys(namespace)}:
            raise NotFound(
                f"there is no key {key_id!r} in namespace {namespace!r}", hint="list the keys", kind="key", name=key_id
            )
        if namespace == "*" and self._platform_keys() == [key_id]:
            raise Conflict(
                f"{key_id!r} is the last admin key of the platform", hint="create another one first", key=key_id
            )
        await self._store.delete_key(key_id, entry_of(principal, namespace, "key.delete", key_id, source))
        self._drop_keys(lambda key: key.id == key_id)

    def _platform_keys(self) -> list[str]:
        now_s = clock.wall_s()
        return [
            key.id
            for key, _ in self._keys.values()
            if key.namespace == "*" and key.role == "admin" and (key.expires_s is None or key.expires_s > now_s)
        ]

    def _drop_keys(self, gone: Callable[[Key], bool]) -> None:
        ids_gone = {key.id for key, _ in self._keys.values() if gone(key)}
        self._keys = {digest: pair for digest, pair in self._keys.items() if pair[0].id not in ids_gone}
        self._ids = {key: digest for key, digest in self._ids.items() if key not in ids_gone}
        self._known = {token: found for token, found in self._known.items() if found.key_id not in ids_gone}

    # --- namespaces ------------------------------------------------------------------------------------------------

    async def list_namespaces(self) -> list[Namespace]:
        """All, by name."""
        return [self._namespaces[name] for name in sorted(self._namespaces)]

    async def get_namespace(self, name: str) -> Namespace:
        """NotFound when absent."""
        return self._known_namespace(name)

    def _known_namespace(self, name: str) -> Namespace:
        found = self._namespaces.get(name)
        if found is None:
            raise NotFound(f"there is no namespace {name!r}", hint="create it first", kind="namespace", name=name)
        return found

    def quotas(self, name: str) -> Quotas:
        """The namespace's limits, from memory. NotFound when it is gone."""
        return self._known_namespace(name).quotas

    async def create_namespace(self, principal: Principal, name: str, quotas: Quotas, source: str) -> Namespace:
        """Conflict when the name is taken. Only a platform key may."""
        principal.require("namespaces", "*")
        check_name("namespace", name)
        _check_quotas(quotas)
        made = Namespace(name=name, quotas=quotas, created_s=clock.wall_s())
        await self._store.create_namespace(made, entry_of(principal, name, "namespace.create", name, source))
        self._namespaces[name] = made
        return made

    async def set_quotas(self, principal: Principal, name: str, quotas: Quotas, source: str) -> Namespace:
        """Replace the limits; they hold for the next request. Only a platform key may. NotFound."""
        principal.require("namespaces", "*")
        _check_quotas(quotas)
        detail = ", ".join(f"{field}={getattr(quotas, field)}" for field in Quotas.__struct_fields__)
        entry = entry_of(principal, name, "namespace.quotas", name, source, detail)
        self._namespaces[name] = changed = await self._store.set_quotas(name, quotas, entry)
        return changed

    async def delete_namespace(self, principal: Principal, name: str, source: str) -> None:
        """Conflict while it holds functions. What else it has goes with it; the audit log stays."""
        principal.require("namespaces", "*")
        for check in self._before_deleted:
            await check(name)
        await self._store.delete_namespace(name, entry_of(principal, name, "namespace.delete", name, source))
        self._namespaces.pop(name, None)
        self._sealed.pop(name, None)
        self._drop_keys(lambda key: key.namespace == name)
        for call in self._on_deleted:
            await call(name)

    # --- secrets ---------------------------------------------------------------------------------------------------

    async def list_secrets(self, namespace: str) -> list[str]:
        """Names, sorted. NotFound when the namespace is absent."""
        await self.get_namespace(namespace)
        return sorted(self._sealed.get(namespace, ()))

    async def put_secret(self, principal: Principal, namespace: str, name: str, value: str, source: str) -> None:
        """Create or replace. The audit log tells that it changed, never what it is."""
        principal.require("secrets", namespace)
        check_secret_name(name)
        try:
            plain = value.encode()
        except UnicodeEncodeError:
            raise BadRequest("a secret's value is Unicode text", hint="encode bytes as base64", path="value") from None
        if len(plain) > SECRET_BYTES or "\0" in value:
            raise BadRequest(
                f"a secret's value is up to {SECRET_BYTES} bytes without NUL; this one has {len(plain)}", path="value"
            )
        sealed = (await self._open_sealer()).seal(plain, f"{namespace}/{name}")
        await self._store.put_secret(
            namespace, name, sealed, entry_of(principal, namespace, "secret.put", name, source)
        )
        self._sealed.setdefault(namespace, {})[name] = sealed

    async def delete_secret(self, principal: Principal, namespace: str, name: str, source: str) -> None:
        """NotFound when absent."""
        principal.require("secrets", namespace)
        await self._store.put_secret(
            namespace, name, None, entry_of(principal, namespace, "secret.delete", name, source)
        )
        self._sealed.get(namespace, {}).pop(name, None)

    async def reveal(self, namespace: str, names: Iterable[str]) -> dict[str, str]:
        """Name -> value, for an instance of this namespace that is about to start. NotFound names the missing one."""
        wanted = list(names)
        if not wanted:
            return {}
        held = self._sealed.get(namespace, {})
        sealer = await self._open_sealer()
        values = {}
        for name in wanted:
            if name not in held:
                close = nearest(name, held)
                raise NotFound(
                    f"there is no secret {name!r} in namespace {namespace!r}", kind="secret", name=name,
                    hint=f"did you mean {close!r}?" if close else f"set it: fuyun secret set {name}",
                )  # fmt: skip
            values[name] = sealer.open(held[name], f"{namespace}/{name}").decode()
        return values

    async def _open_sealer(self) -> Sealer:
        if self._sealer is None:
            key = await asyncio.to_thread(load_key, self._secret_file, False)
            self._sealer = await asyncio.to_thread(Sealer, key)
        return self._sealer

    # --- audit -----------------------------------------------------------------------------------------------------

    async def list_audit(self, namespace: str, after: str = "", limit: int = 100) -> list[AuditEntry]:
        """Entries with an id greater than `after`, oldest first; `*` for all namespaces."""
        return await self._store.audit(None, namespace, after, limit)

    async def note(self, entry: AuditEntry) -> None:
        """Append an entry for a change that took more than one transaction."""
        await self._store.audit(entry)


def _principal(key: Key) -> Principal:
    return Principal(key_id=key.id, namespace=key.namespace, role=key.role)


def entry_of(
    principal: Principal, namespace: str, action: str, target: str, source: str, detail: str = ""
) -> AuditEntry:
    """The audit log's entry for a change that is about to be written (`function.deploy`, `alias.set` ...)."""
    return AuditEntry(
        id=ids.new_id(), at_s=clock.wall_s(), key_id=principal.key_id, namespace=namespace, action=action,
        target=target, source=source, detail=detail,
    )  # fmt: skip


def _check_quotas(quotas: Quotas) -> None:
    for field in Quotas.__struct_fields__:
        value = getattr(quotas, field)
        if not 0 <= value < 2**53:
            raise BadRequest(f"{value} is no quota", hint="use 0 (none of it) or more", path=f"quotas.{field}")
