"""`fuyun fn`: functions and their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fuyun.cli import output
from fuyun.cli.names import function_names
from fuyun.cli.session import JsonOption, NamespaceOption, YesOption, command, confirm, connect, noun, split_name

if TYPE_CHECKING:
    from fuyun.domain.functions import Version

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Function.", autocompletion=function_names)]


def add(app: typer.Typer) -> None:
    """Register the noun."""
    fn = noun("fn", "Functions and their versions.")
    command(fn, "list")(list_)
    command(fn, "get")(get)
    command(fn, "versions")(versions)
    command(fn, "publish")(publish)
    command(fn, "delete")(delete)
    app.add_typer(fn)


def list_(namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List the functions of the namespace."""
    with connect(namespace) as platform:
        found = platform.list_functions()
    if json:
        return output.as_json(found)
    rows = [(item.name, item.last_version or "", output.when(item.updated_s)) for item in found]
    output.table(
        ("NAME", "VERSION", "UPDATED"), rows, empty="no functions; deploy one: fuyun init NAME && fuyun deploy NAME"
    )


def get(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME[:VERSION]", help="Function, or one version of it.", autocompletion=function_names),
    ],
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Show a function: the draft, or the version named."""
    function, qualifier = split_name(name)
    with connect(namespace) as platform:
        if qualifier and qualifier != "$LATEST" and not qualifier.isdigit():
            alias = next((item for item in platform.list_aliases(function) if item.name == qualifier), None)
            if alias is None:
                from fuyun.domain.errors import NotFound

                raise NotFound(f"{function} has no alias {qualifier!r}", hint=f"see: fuyun alias list {function}")
            qualifier = str(max(alias.weights, key=lambda weight: weight.weight).version or "$LATEST")
        version = platform.get_version(function, qualifier or "$LATEST")
        aliases = platform.list_aliases(function)
        start = platform.get_start(function, version.qualifier)
    if json:
        return output.as_json({"version": version, "aliases": aliases, "start": start})
    _show(version)
    output.pairs([("start", f"{start['policy']}: {start['rung']} ({start['reason']})")])
    for item in aliases:
        shares = ", ".join(f"{share.version or '$LATEST'}={share.weight:g}%" for share in item.weights)
        output.pairs([(f"alias {item.name}", shares)])


def versions(name: NameArgument, namespace: NamespaceOption = "", json: JsonOption = False) -> None:
    """List a function's versions, the draft first."""
    with connect(namespace) as platform:
        found = platform.list_versions(name)
    if json:
        return output.as_json(found)
    rows = [(v.qualifier, v.spec.runtime, v.code.digest[:12], output.when(v.created_s), v.description) for v in found]
    output.table(("VERSION", "RUNTIME", "CODE", "CREATED", "DESCRIPTION"), rows)


def publish(
    name: NameArgument,
    description: Annotated[str, typer.Option(help="What is new in it.")] = "",
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Freeze the draft as the next version and print its number."""
    with connect(namespace) as platform:
        version = platform.publish(name, description)
    if json:
        return output.as_json(version)
    output.data(version.qualifier)


def delete(name: NameArgument, namespace: NamespaceOption = "", yes: YesOption = False) -> None:
    """Delete a function with all its versions and aliases."""
    with connect(namespace) as platform:
        platform.get_function(name)
        confirm(f"Delete {name} of namespace {platform.namespace} with all its versions?", yes)
        platform.delete_function(name)
    output.words(f"deleted {name}")


def _show(version: Version) -> None:
    from fuyun.base.units import format_duration, format_size

    spec = version.spec
    triggers = [
        f"{' '.join(t.http.methods)} {t.http.path} ({t.http.auth})" for t in spec.triggers if t.http is not None
    ]
    output.pairs(
        [
            ("function", f"{version.namespace}/{version.function}"),
            ("version", version.qualifier),
            ("description", version.description or spec.description),
            ("runtime", spec.runtime),
            ("handler", spec.handler),
            ("memory", format_size(spec.memory_bytes)),
            ("timeout", format_duration(spec.timeout_s)),
            ("concurrency", spec.concurrency),
            (
                "instances",
                f"{spec.min_instances} to {spec.max_instances}, idle for {format_duration(spec.idle_timeout_s)}",
            ),
            *(
                ("provisioned", f"{w.instances} at {w.schedule!r} {w.timezone} for {format_duration(w.duration_s)}")
                for w in spec.provisioned
            ),
            ("isolation", spec.isolation),
            ("initializer", spec.hooks.initializer),
            ("env", ", ".join(sorted(spec.env))),
            ("secrets", ", ".join(f"{name}={secret}" for name, secret in sorted(spec.secrets.items()))),
            (
                "tags",
                ", ".join(
                    f"{name}={value}" for name, value in sorted(spec.tags.items()) if not name.startswith("fuyun.")
                ),
            ),
            *(("trigger", trigger) for trigger in triggers),
            ("code", f"{version.code.digest[:12]} ({output.about(version.code.size_bytes)})"),
            ("layers", ", ".join(spec.layers)),
            ("mounted", ", ".join(layer.digest[:12] for layer in version.layers)),
            ("created", output.when(version.created_s)),
        ]
    )
