"""`fuyun key`: who may do what."""

from __future__ import annotations

from typing import Annotated

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, NamespaceOption, command, connect, noun
from fuyun.domain.errors import BadRequest

ROLES = ("admin", "developer", "invoker", "viewer")


def add(app: typer.Typer) -> None:
    """Register the noun."""
    key = noun("key", "Keys: who may do what in a namespace.")
    command(key, "create")(create)
    command(key, "list")(list_)
    command(key, "revoke")(revoke)
    command(key, "s3")(s3)
    app.add_typer(key)


def create(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="What it is for.")] = "",
    role: Annotated[str, typer.Option(help=f"One of {', '.join(ROLES)}.")] = "developer",
    expires: Annotated[str, typer.Option(help="How long it is valid, such as 90d; default: for ever.")] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Make a key and print its token, once."""
    from fuyun.base import clock
    from fuyun.base.units import parse_duration
    from fuyun.domain.names import nearest

    if role not in ROLES:
        close = nearest(role, ROLES)
        raise BadRequest(
            f"{role!r} is not a role" + (f"; did you mean {close!r}?" if close else ""), hint=", ".join(ROLES)
        )
    try:
        expires_s = clock.wall_s() + parse_duration(expires) if expires else None
    except ValueError as exc:
        raise BadRequest(f"--expires: {exc}") from exc
    with connect(namespace) as platform:
        key, token = platform.create_key(name, role, expires_s=expires_s)
    if json:
        return output.as_json({"key": key, "token": token})
    until = f", until {output.when(key.expires_s)}" if key.expires_s else ""
    output.words(f"key {key.id}: {key.role} of {key.namespace}{until}. This is its token; it is not shown again.")
    output.data(token)


def list_(namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List the namespace's keys (without their tokens)."""
    with connect(namespace) as platform:
        found = platform.list_keys()
    if json:
        return output.as_json(found)
    rows = [(k.id, k.role, k.namespace, k.name, output.when(k.created_s), output.when(k.expires_s or 0)) for k in found]
    output.table(("ID", "ROLE", "NAMESPACE", "NAME", "CREATED", "EXPIRES"), rows, empty="no keys")


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id (see: fuyun key list).")],
    namespace: NamespaceOption = "",
) -> None:
    """Revoke a key: its next request is refused."""
    if key_id.startswith("fk_"):
        key_id = key_id.split("_")[1]
    with connect(namespace) as platform:
        platform.delete_key(key_id)
    output.words(f"revoked {key_id}")


def s3(
    key_id: Annotated[str, typer.Argument(metavar="[ID]", help="The key's id; default: the key in use.")] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Print a key as S3's clients take it: lines for a shell's `eval`, or JSON."""
    with connect(namespace) as platform:
        own = _id_of(platform.profile.key)
        wanted = _id_of(key_id) if key_id else own
        scope = namespace or platform.namespace
        if wanted == own:  # whose namespace the platform knows; it may be a key of the platform itself
            scope = str(platform.get_info()["namespace"])
        found = platform.get_access_key(wanted, scope)
    if json:
        return output.as_json(found)
    names = {"access_key": "AWS_ACCESS_KEY_ID", "secret_key": "AWS_SECRET_ACCESS_KEY", "region": "AWS_DEFAULT_REGION",
             "endpoint": "AWS_ENDPOINT_URL_S3"}  # fmt: skip
    for field, name in names.items():
        output.data(f"export {name}={found[field]}")


def _id_of(text: str) -> str:
    """The id of a key, of which the token may have been given."""
    return text.split("_")[1] if text.startswith("fk_") and text.count("_") == 2 else text
