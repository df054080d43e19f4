"""The environment variables a version starts with."""

from __future__ import annotations

from fuyun.domain.functions import Version
from fuyun.services.tenants import Tenants


async def environment_of(tenants: Tenants, version: Version) -> dict[str, str]:
    """The version's `env` and its secrets, revealed. NotFound names a secret that is missing.

    Whoever starts instances and whoever warms them up use this, so that both get the same template.
    """
    wanted = version.spec.secrets
    values = await tenants.reveal(version.namespace, sorted(set(wanted.values())))
    return {**version.spec.env, **{name: values[secret] for name, secret in wanted.items()}}
