"""`fuyun layer`: read-only folders that functions share, in numbered versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, NamespaceOption, YesOption, command, confirm, connect, noun
from fuyun.domain.errors import BadRequest

if TYPE_CHECKING:
    from fuyun.domain.layers import LayerVersion

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Layer.")]


def add(app: typer.Typer) -> None:
    """Register the noun."""
    layer = noun("layer", "Read-only folders that functions share.")
    command(layer, "publish")(publish)
    command(layer, "list")(list_)
    command(layer, "versions")(versions)
    command(layer, "get")(get)
    command(layer, "delete")(delete)
    app.add_typer(layer)


def publish(
    name: NameArgument,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder that the layer holds, or a zip of it.")],
    description: Annotated[str, typer.Option(help="What is new in the version.")] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Publish a folder as the layer's next version. One that holds the same as the newest version is that version."""
    from fuyun.cli.progress import Progress
    from fuyun.domain.names import check_name

    check_name("layer", name)
    with connect(namespace) as platform, Progress(name) as progress:
        progress.step("packaging")
        archive = _packed(path)
        progress.step("uploading")
        stored = platform.upload(archive, lambda sent: progress.part("uploading", sent, len(archive)))
        made = platform.publish_layer(name, stored.digest, description)
        progress.done(f"version {made.number}")
    if json:
        return output.as_json(made)
    output.data(made.reference)


def list_(namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List the namespace's layers with their newest versions."""
    with connect(namespace) as platform:
        found = platform.list_layers()
    if json:
        return output.as_json(found)
    _table(found, "no layers; publish one: fuyun layer publish NAME FOLDER")


def versions(name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List a layer's versions."""
    with connect(namespace) as platform:
        found = platform.list_layer_versions(name)
    if json:
        return output.as_json(found)
    _table(found, f"{name} has no versions")


def get(
    name: Annotated[str, typer.Argument(metavar="NAME[:NUMBER]", help="Layer; default: its newest version.")],
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Show one version of a layer."""
    from fuyun.base.units import format_size
    from fuyun.domain.names import parse_layer

    with connect(namespace) as platform:
        found = platform.get_layer(*parse_layer(name))
    if json:
        return output.as_json(found)
    output.pairs(
        [
            ("layer", f"{found.namespace}/{found.name}"),
            ("version", found.number),
            ("description", found.description),
            ("content", f"{found.content.digest[:12]} ({format_size(found.content.size_bytes)})"),
            ("created", output.when(found.created_s)),
        ]
    )


def delete(
    name: Annotated[str, typer.Argument(metavar="NAME:NUMBER", help="Version of a layer.")],
    namespace: NamespaceOption = "",
    yes: YesOption = False,
) -> None:
    """Delete one version of a layer. Functions that mount it keep what it held."""
    from fuyun.domain.names import parse_layer

    layer, number = parse_layer(name)
    if not number:
        raise BadRequest(
            f"{name!r} names no version", hint=f"write {name}:NUMBER; `fuyun layer versions {name}` shows them"
        )
    with connect(namespace) as platform:
        confirm(f"Delete version {number} of layer {layer} of namespace {platform.namespace}?", yes)
        platform.delete_layer(layer, number)
    output.words(f"deleted {layer}:{number}")


def _packed(path: Path) -> bytes:
    """The archive of a folder, or a zip as it is. BadRequest when it is neither."""
    from fuyun.base.archive import Unpackable, pack

    try:
        if path.is_file() and path.suffix == ".zip":
            return path.read_bytes()
        return pack(path)
    except Unpackable as exc:
        raise BadRequest(str(exc)) from exc
    except OSError as exc:
        raise BadRequest(f"{path} cannot be packed: {exc}", hint="check the files' permissions") from exc


def _table(found: list[LayerVersion], empty: str) -> None:
    from fuyun.base.units import format_size

    rows = [
        (item.name, item.number, format_size(item.content.size_bytes), output.when(item.created_s), item.description)
        for item in found
    ]
    output.table(("LAYER", "VERSION", "SIZE", "CREATED", "DESCRIPTION"), rows, empty=empty)
