"""`fuyun object`: files in and out of buckets. Bytes go over S3, at addresses that the API signs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, NamespaceOption, YesOption, command, confirm, connect, noun
from fuyun.domain.errors import BadRequest

PlaceArgument = Annotated[str, typer.Argument(metavar="BUCKET/KEY", help="Object.")]


def add(app: typer.Typer) -> None:
    """Register the noun."""
    object_ = noun("object", "Objects: files in buckets.")
    command(object_, "put")(put)
    command(object_, "get")(get)
    command(object_, "list")(list_)
    command(object_, "delete")(delete)
    command(object_, "presign")(presign)
    app.add_typer(object_)


def _split(place: str) -> tuple[str, str]:
    bucket, slash, key = place.partition("/")
    if not bucket or not slash or not key:
        raise BadRequest(f"{place!r} names no object", hint="write BUCKET/KEY")
    return bucket, key


def put(
    file: Annotated[str, typer.Argument(metavar="FILE", help="File to store; - is stdin.")],
    place: Annotated[str, typer.Argument(metavar="BUCKET[/KEY]", help="Where to; default: under the file's name.")],
    content_type: Annotated[str, typer.Option(help="Media type; default: by the file's name.")] = "",
    namespace: NamespaceOption = "",
) -> None:
    """Store a file as an object."""
    import mimetypes

    from fuyun.client.transfer import send

    if place.endswith("/") or "/" not in place:
        if file == "-":
            raise BadRequest("what comes from stdin has no name", hint="write BUCKET/KEY")
        place = f"{place.rstrip('/')}/{Path(file).name}"
    bucket, key = _split(place)
    media = content_type or mimetypes.guess_type(key)[0] or "application/octet-stream"
    with connect(namespace) as platform, _opened(file) as source:
        send(platform.presign(bucket, key, "PUT"), source, media)
    output.data(place)


def _opened(file: str) -> IO[bytes]:
    """The file, or stdin in a file of its own: S3 wants to know how long it is."""
    import shutil
    import tempfile

    if file == "-":
        kept = tempfile.TemporaryFile()  # noqa: SIM115 - closed by who asked
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.seek(0)
        return kept
    try:
        return open(file, "rb")
    except OSError as exc:
        raise BadRequest(f"{file} cannot be read: {exc.strerror}", hint="name a file, or - for stdin") from exc


def get(
    place: PlaceArgument,
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Where to; default: stdout.")] = "-",
    namespace: NamespaceOption = "",
) -> None:
    """Fetch an object."""
    from fuyun.client.transfer import fetch

    bucket, key = _split(place)
    with connect(namespace) as platform:
        pieces = fetch(platform.presign(bucket, key))
        if file == "-":
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        _save(Path(file), pieces)
    output.words(f"saved {file}")


def _save(path: Path, pieces: Iterator[bytes]) -> None:
    """Write beside the file, then replace it: what breaks off leaves the old one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    first = next(pieces, b"")  # what is absent is said before a file is made
    try:
        with draft.open("wb") as target:
            target.write(first)
            for piece in pieces:
                target.write(piece)
        draft.replace(path)
    except OSError as exc:
        raise BadRequest(f"{path} cannot be written: {exc.strerror}", hint="name another file") from exc
    finally:
        draft.unlink(missing_ok=True)


def list_(
    place: Annotated[str, typer.Argument(metavar="BUCKET[/PREFIX]", help="Bucket, and what keys begin with.")],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Do not fold at '/'.")] = False,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """List objects; keys are folded at '/'."""
    bucket, _, prefix = place.partition("/")
    found, after = [], ""
    with connect(namespace) as platform:
        while True:
            page, after = platform.list_objects(bucket, prefix, "" if recursive else "/", after)
            found += page
            if not after:
                break
    if json:
        return output.as_json(found)
    rows = [
        (one["key"], "" if one["prefix"] else one["size_bytes"], output.when(one["created_s"]), one["content_type"])
        for one in found
    ]
    output.table(("KEY", "BYTES", "WRITTEN", "TYPE"), rows, empty="no objects")


def delete(
    place: PlaceArgument,
    version: Annotated[str, typer.Option(help="Delete this version for good.")] = "",
    namespace: NamespaceOption = "",
    yes: YesOption = False,
) -> None:
    """Delete an object, or one version of it."""
    bucket, key = _split(place)
    with connect(namespace) as platform:
        confirm(f"Delete {place}" + (f", version {version}?" if version else "?"), yes)
        platform.delete_object(bucket, key, version)
    output.words(f"deleted {place}")


def presign(
    place: PlaceArgument,
    put: Annotated[bool, typer.Option("--put", help="For writing the object; default: for reading it.")] = False,
    lasts: Annotated[str, typer.Option(help="How long it is good, up to 7d.")] = "1h",
    namespace: NamespaceOption = "",
) -> None:
    """Print an address at which whoever has it may read, or write, the object."""
    from fuyun.base.units import parse_duration

    bucket, key = _split(place)
    try:
        lasts_s = round(parse_duration(lasts))
    except ValueError as exc:
        raise BadRequest(f"--lasts: {exc}") from exc
    with connect(namespace) as platform:
        output.data(platform.presign(bucket, key, "PUT" if put else "GET", lasts_s))
