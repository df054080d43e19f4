"""`fuyun deploy`: a project's functions, packaged, uploaded, built, warmed and served."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuyun.cli import output
from fuyun.cli.progress import Progress
from fuyun.cli.session import JsonOption, NamespaceOption, command, connect
from fuyun.domain.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from fuyun.client.platform import Platform
    from fuyun.client.project import Project, ProjectFunction
    from fuyun.domain.functions import FunctionSpec, Version

#: Tag that carries the digest of dependencies which are not part of the code folder, so that a change of them is seen.
REQUIREMENTS_TAG = "fuyun.requirements"

PathArgument = Annotated[Path, typer.Argument(metavar="[PATH]", help="Project file, or the folder that holds it.")]
FunctionOption = Annotated[
    list[str] | None, typer.Option("--function", "-f", help="Only this function; may be repeated.")
]
StageOption = Annotated[str, typer.Option("--stage", "-s", help="Stage of the project file.")]


@dataclass(slots=True, kw_only=True)
class Plan:
    """What deploying one function would do. `state` is new, changed or unchanged; `changes` says what differs."""

    function: ProjectFunction
    spec: FunctionSpec
    archive: bytes
    digest: str
    state: str
    changes: list[str] = field(default_factory=list)
    current: Version | None = None


def add(app: typer.Typer) -> None:
    """Register the command."""
    command(app, "deploy")(deploy)


def deploy(
    path: PathArgument = Path("."),
    function: FunctionOption = None,
    stage: StageOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change; change nothing.")] = False,
    alias: Annotated[str, typer.Option(help="Publish a version and point this alias at it.")] = "",
    publish: Annotated[bool, typer.Option("--publish", help="Publish a version.")] = False,
    description: Annotated[str, typer.Option(help="What is new in the version.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Deploy also what has not changed.")] = False,
    namespace: NamespaceOption = "",
    json: JsonOption = False,
) -> None:
    """Deploy a project's functions and print the URL of each."""
    from fuyun.client.project import load_project
    from fuyun.domain.names import check_name

    if alias:
        check_name("alias", alias)
    project = load_project(path, stage=stage)
    chosen = project.pick(function or [])
    results = []
    with connect(namespace or project.namespace) as platform:
        gateway = str(platform.get_info().get("gateway") or platform.profile.gateway)
        for item in chosen:
            with Progress(item.name) as progress:
                progress.step("packaging")
                plan = make_plan(platform, project, item)
                if dry_run:
                    version = plan.current
                else:
                    version = _carry_out(platform, plan, Wish(alias, publish, description, force), progress)
            urls = _urls(gateway, platform.namespace, item, alias)
            results.append(_result(plan, version, urls, dry_run))
            if not json:
                _print(results[-1], dry_run)
    if json:
        output.as_json(results)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the options ask for besides deploying the draft."""

    alias: str
    publish: bool
    description: str
    force: bool


def make_plan(platform: Platform, project: Project, function: ProjectFunction) -> Plan:
    """Pack the function and compare it with the platform's draft by digest."""
    import msgspec

    from fuyun.base.archive import Unpackable, digest_of, pack

    try:
        # The project file is not code: a changed limit is no new code.
        archive = pack(function.code, ignore=[f"/{project.file.name}"])
    except Unpackable as exc:
        raise BadRequest(f"{project.file}:{function.line}: code: {exc}") from exc
    except OSError as exc:
        raise BadRequest(f"{function.code} cannot be packed: {exc}", hint="check the files' permissions") from exc
    spec, digest = function.spec, digest_of(archive)
    if function.requirements.text and not function.requirements.inside:
        mark = hashlib.sha256(function.requirements.text.encode()).hexdigest()[:16]
        spec = msgspec.structs.replace(spec, tags={**spec.tags, REQUIREMENTS_TAG: mark})
    try:
        current = platform.get_version(function.name)
    except NotFound:
        return Plan(function=function, spec=spec, archive=archive, digest=digest, state="new")
    changes = ["code"] if current.code.digest != digest else []
    changes += [name for name in spec.__struct_fields__ if getattr(spec, name) != getattr(current.spec, name)]
    state = "changed" if changes else "unchanged"
    return Plan(
        function=function, spec=spec, archive=archive, digest=digest, state=state, changes=changes, current=current
    )


def _carry_out(platform: Platform, plan: Plan, wish: Wish, progress: Progress) -> Version:
    from fuyun.base.units import format_size
    from fuyun.client.platform import Release
    from fuyun.domain.functions import Weight

    name = plan.function.name
    if plan.state == "unchanged" and not wish.force and plan.current is not None:
        version = plan.current
        if wish.publish or wish.alias:
            version = platform.publish(name, wish.description)
        if wish.alias:
            known = next((item for item in platform.list_aliases(name) if item.name == wish.alias), None)
            if known is None or [share.version for share in known.weights] != [version.number]:
                platform.set_alias(name, wish.alias, [Weight(version=version.number, weight=100)],
                                   known.sticky_header if known else "", known.revision if known else 0)  # fmt: skip
        progress.done(f"unchanged, version {version.qualifier}")
        return version
    if plan.current is None or plan.current.code.digest != plan.digest or wish.force:
        progress.step(f"uploading {_about(len(plan.archive))}")
        platform.upload(plan.archive)
    progress.step("building")
    release = Release(spec=plan.spec, code=plan.digest, requirements=plan.function.requirements.text, alias=wish.alias,
                      publish=wish.publish or bool(wish.alias), description=wish.description)  # fmt: skip
    version = platform.deploy(name, release, progress.step)
    progress.done(f"deployed, version {version.qualifier}, code {format_size(len(plan.archive))}")
    return version


def _about(size_bytes: int) -> str:
    for unit, factor in (("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


def _urls(gateway: str, namespace: str, function: ProjectFunction, alias: str) -> list[dict[str, str]]:
    qualifier = f":{alias}" if alias else ""
    urls = [{"url": f"{gateway}/fn/{namespace}/{function.name}{qualifier}", "auth": "key", "methods": "ANY"}]
    for trigger in function.spec.triggers:
        if trigger.http is not None:
            http = trigger.http
            urls.append({"url": f"{gateway}{http.path}", "auth": http.auth, "methods": " ".join(http.methods)})
    return urls


def _result(plan: Plan, version: Version | None, urls: list[dict[str, str]], dry_run: bool) -> dict[str, Any]:
    return {
        "function": plan.function.name,
        "state": plan.state,
        "changes": plan.changes,
        "digest": plan.digest,
        "version": version.qualifier if version is not None and not dry_run else None,
        "urls": urls,
    }


def _print(result: dict[str, Any], dry_run: bool) -> None:
    if dry_run:
        changes = f" ({', '.join(result['changes'])})" if result["changes"] else ""
        output.data(f"{result['function']}\t{result['state']}{changes}\t{result['digest'][:12]}")
        return
    for url in result["urls"]:
        kind = (
            f"\t{url['auth']}\t{url['methods']}" if not output.on_terminal() else f"  ({url['auth']}, {url['methods']})"
        )
        output.data(f"{url['url']}{kind}")
