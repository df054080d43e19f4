"""Buckets: made, changed, deleted, and who may do what with them. What requests need of them is in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from msgspec.structs import replace

from fuyun.base import clock
from fuyun.domain.bucketrules import Notification, Rules, check_rules
from fuyun.domain.errors import Conflict
from fuyun.domain.objects import Bucket, Versioning, absent_bucket, check_bucket
from fuyun.domain.tenants import Principal
from fuyun.ports.objects import BucketStore
from fuyun.services.tenants import Tenants, entry_of

_PAGE = 1000


class Buckets:
    """One per platform."""

    def __init__(self, store: BucketStore, tenants: Tenants) -> None:
        self._store = store
        self._tenants = tenants
        self._known: dict[str, Bucket] = {}  # what they count is of when each was read

    @classmethod
    async def open(cls, store: BucketStore, tenants: Tenants) -> Self:
        """Read all buckets; a namespace that has some cannot be deleted from now on."""
        buckets = cls(store, tenants)
        after = ""
        while page := await store.list_buckets("*", after, _PAGE):
            buckets._known |= {bucket.name: bucket for bucket in page}
            after = page[-1].name
        tenants.before_namespace_deleted(buckets._refuse_while_held)
        return buckets

    def access(self, principal: Principal | None, action: str, name: str) -> Bucket:
        """The bucket, for whoever may do `action` in its namespace; None may read what a website shows. Its counts may
        be old. NotFound, Forbidden."""
        found = self._known.get(name)
        if found is None:
            raise absent_bucket(name)
        if principal is not None:
            principal.require(action, found.namespace)
        return found

    def quota(self, bucket: Bucket) -> int:
        """Bytes that buckets of its namespace may hold."""
        return self._tenants.quotas(bucket.namespace).object_bytes

    def notifications(self, name: str) -> tuple[Notification, ...]:
        """What a bucket tells of, and whom; nothing of one that is gone."""
        found = self._known.get(name)
        return () if found is None else found.rules.notifications

    @property
    def names(self) -> list[str]:
        """All buckets' names."""
        return sorted(self._known)

    async def get_bucket(self, principal: Principal, name: str) -> Bucket:
        """The bucket with what it counts now. NotFound, Forbidden."""
        self.access(principal, "read", name)
        found = await self._store.find(name)
        if found is None:
            raise absent_bucket(name)
        return found

    async def list_buckets(
        self, principal: Principal, namespace: str, after: str = "", limit: int = 1000
    ) -> list[Bucket]:
        """A page by name; "*" is every namespace."""
        principal.require("read", namespace)
        if namespace != "*":
            await self._tenants.get_namespace(namespace)
        return await self._store.list_buckets(namespace, after, limit)

    async def create_bucket(self, principal: Principal, namespace: str, name: str, region: str, source: str) -> Bucket:
        """Conflict when the name is taken on the platform; QuotaExceeded, NotFound (namespace), BadRequest."""
        principal.require("deploy", namespace)
        check_bucket(name)
        made = Bucket(name=name, namespace=namespace, created_s=clock.wall_s(), region=region)
        entry = entry_of(principal, namespace, "bucket.create", name, source)
        await self._store.create(made, self._tenants.quotas(namespace).buckets, entry)
        self._known[name] = made
        return made

    async def delete_bucket(self, principal: Principal, name: str, source: str) -> None:
        """With its uploads that are under way. Conflict while it holds an object; NotFound."""
        found = self.access(principal, "delete", name)
        await self._store.delete(name, entry_of(principal, found.namespace, "bucket.delete", name, source))
        self._known.pop(name, None)

    async def set_versioning(self, principal: Principal, name: str, versioning: Versioning, source: str) -> Bucket:
        """NotFound."""
        return await self._change(
            principal, name, lambda bucket: replace(bucket, versioning=versioning), f"versioning {versioning}", source
        )

    async def set_rules(
        self, principal: Principal, name: str, what: str, change: Callable[[Rules], Rules], source: str
    ) -> Bucket:
        """The bucket with the rules that `change` makes of its rules. `what` is told to the audit log. NotFound,
        BadRequest."""
        return await self._change(
            principal, name, lambda bucket: replace(bucket, rules=check_rules(change(bucket.rules))), what, source
        )

    async def _change(
        self, principal: Principal, name: str, change: Callable[[Bucket], Bucket], what: str, source: str
    ) -> Bucket:
        found = self.access(principal, "deploy", name)
        entry = entry_of(principal, found.namespace, "bucket.change", name, source, what)
        made = self._known[name] = await self._store.change(name, change, entry)
        return made

    async def _refuse_while_held(self, namespace: str) -> None:
        held = next((name for name, bucket in sorted(self._known.items()) if bucket.namespace == namespace), None)
        if held is not None:
            raise Conflict(
                f"namespace {namespace!r} still holds buckets, {held!r} for one", hint="delete its buckets first",
                bucket=held,
            )  # fmt: skip
