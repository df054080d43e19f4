"""`fuyun bucket`: where objects are kept. What a bucket is configured with, S3's own tools set."""

from __future__ import annotations

from typing import Annotated

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, NamespaceOption, YesOption, command, confirm, connect, noun

NameArgument = Annotated[str, typer.Argument(metavar="BUCKET", help="Bucket.")]


def add(app: typer.Typer) -> None:
    """Register the noun."""
    bucket = noun("bucket", "Buckets: where objects are kept.")
    command(bucket, "create")(create)
    command(bucket, "list")(list_)
    command(bucket, "get")(get)
    command(bucket, "delete")(delete)
    app.add_typer(bucket)


def create(name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """Make a bucket. Its name is unique on the platform."""
    from fuyun.domain.objects import check_bucket

    check_bucket(name)
    with connect(namespace) as platform:
        made = platform.create_bucket(name)
    if json:
        return output.as_json(made)
    output.data(made.name)


def list_(namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List the namespace's buckets."""
    from fuyun.base.units import format_size

    with connect(namespace) as platform:
        found = platform.list_buckets()
    if json:
        return output.as_json(found)
    rows = [
        (one.name, one.objects, format_size(one.size_bytes), one.versioning or "off", output.when(one.created_s))
        for one in found
    ]
    columns = ("BUCKET", "OBJECTS", "SIZE", "VERSIONING", "CREATED")
    output.table(columns, rows, empty="no buckets; make one: fuyun bucket create NAME")


def get(name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """Show a bucket: what it holds, and which rules it has."""
    from fuyun.base.units import format_size

    with connect(namespace) as platform:
        found = platform.get_bucket(name)
    if json:
        return output.as_json(found)
    rules = found.rules
    output.pairs(
        [
            ("bucket", f"{found.namespace}/{found.name}"),
            ("objects", found.objects),
            ("size", format_size(found.size_bytes)),
            ("versioning", found.versioning or "off"),
            ("lifecycle rules", len(rules.lifecycle) or ""),
            ("cors rules", len(rules.cors) or ""),
            ("notifications", ", ".join(one.target for one in rules.notifications)),
            ("website", "yes" if rules.website else ""),
            ("created", output.when(found.created_s)),
        ]
    )


def delete(name: NameArgument, namespace: NamespaceOption = "", yes: YesOption = False) -> None:
    """Delete a bucket that holds nothing."""
    with connect(namespace) as platform:
        confirm(f"Delete bucket {name} of namespace {platform.namespace}?", yes)
        platform.delete_bucket(name)
    output.words(f"deleted {name}")
