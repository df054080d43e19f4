"""`fuyun deploy`: a project's functions, packaged, uploaded, built, warmed and served."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fuyun.cli import output
from fuyun.cli.names import project_functions
from fuyun.cli.progress import Progress
from fuyun.cli.session import JsonOption, NamespaceOption, command, connect
from fuyun.domain.errors import BadRequest, NotFound

if TYPE_CHECKING:
    from fuyun.client.platform import Platform
    from fuyun.client.project import Project, ProjectFunction
    from fuyun.domain.functions import FunctionSpec, Version

#: Tag with the digest of what a version was made from, code archive and requirements. The platform compiles the code it
#: is sent, so that the digest of what it stores is another one.
SOURCE_TAG = "fuyun.source"

PathArgument = Annotated[Path, typer.Argument(metavar="[PATH]", help="Project file, or the folder that holds it.")]
FunctionOption = Annotated[
    list[str] | None,
    typer.Option("--function", "-f", help="Only this function; may be repeated.", autocompletion=project_functions),
]
StageOption = Annotated[str, typer.Option("--stage", "-s", help="Stage of the project file.")]


@dataclass(slots=True, kw_only=True)
class Plan:
    """What deploying one function would do. `state` is new, changed or unchanged; `changes` says what differs; `digest`
    is that of code and requirements."""

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

    from fuyun.base.archive import Unpackable, digest_of

    try:
        archive = _packed(project, function)
    except Unpackable as exc:
        raise BadRequest(f"{project.file}:{function.line}: code: {exc}") from exc
    except OSError as exc:
        raise BadRequest(f"{function.code} cannot be packed: {exc}", hint="check the files' permissions") from exc
    digest = digest_of(archive)
    source = hashlib.sha256(f"{digest}\n{function.requirements.text}".encode()).hexdigest()
    spec = msgspec.structs.replace(function.spec, tags={**function.spec.tags, SOURCE_TAG: source[:32]})
    plan = Plan(function=function, spec=spec, archive=archive, digest=source[:32], state="new")
    try:
        plan.current = platform.get_version(function.name)
    except NotFound:
        return plan
    plan.changes = _changes(_pinned(platform, spec), plan.current.spec)
    plan.state = "changed" if plan.changes else "unchanged"
    return plan


def _packed(project: Project, function: ProjectFunction) -> bytes:
    """The archive of a function's code; of an image its layout, its archive, or what names it."""
    from fuyun.base.archive import pack, pack_files
    from fuyun.domain.images import is_local
    from fuyun.domain.runtimes import IMAGES

    if function.spec.runtime in IMAGES:
        if not is_local(function.spec.image):
            return pack_files([("reference", f"{function.spec.image}\n".encode(), False)])
        if function.code.is_file():
            return pack_files([(function.code.name, function.code.read_bytes(), False)])
        if not (function.code / "oci-layout").is_file():
            found = "holds no oci-layout" if function.code.is_dir() else "does not exist"
            raise BadRequest(
                f"{project.file}:{function.line}: image: {function.code} {found}",
                hint="name an OCI layout or an archive, relative to this file; is it still to be made?",
            )
        return pack(function.code)
    # The project file is not code: a changed limit is no new code.
    return pack(function.code, ignore=[f"/{project.file.name}"])


def _pinned(platform: Platform, spec: FunctionSpec) -> FunctionSpec:
    """The spec with its layers as a deployment would freeze them now; one that is absent stays as it is written."""
    import msgspec

    from fuyun.domain.names import parse_layer

    references = []
    for reference in spec.layers:
        name, number = parse_layer(reference)
        try:
            references.append(reference if number else platform.get_layer(name).reference)
        except NotFound:
            references.append(reference)
    return msgspec.structs.replace(spec, layers=tuple(references))


def _changes(wanted: FunctionSpec, found: FunctionSpec) -> list[str]:
    names = ["code"] if found.tags.get(SOURCE_TAG) != wanted.tags[SOURCE_TAG] else []
    for name in wanted.__struct_fields__:
        before, after = getattr(found, name), getattr(wanted, name)
        if name == "tags":
            before, after = ({k: v for k, v in tags.items() if k != SOURCE_TAG} for tags in (before, after))
        if before != after:
            names.append(name)
    return names


def _carry_out(platform: Platform, plan: Plan, wish: Wish, progress: Progress) -> Version:
    from fuyun.client.platform import Release
    from fuyun.domain.functions import Weight

    name = plan.function.name
    if plan.state == "unchanged" and not wish.force and plan.current is not None:
        version = plan.current
        told = f"unchanged, version {version.qualifier}"
        if wish.publish or wish.alias:
            version = platform.publish(name, wish.description)
            told = f"unchanged, published as version {version.qualifier}"
        if wish.alias:
            known = next((item for item in platform.list_aliases(name) if item.name == wish.alias), None)
            if known is None or [share.version for share in known.weights] != [version.number]:
                platform.set_alias(name, wish.alias, [Weight(version=version.number, weight=100)],
                                   known.sticky_header if known else "", known.revision if known else 0)  # fmt: skip
                told += f", alias {wish.alias} serves it now"
        progress.done(told)
        return version
    size = len(plan.archive)
    uploading = f"uploading {output.about(size)}"
    progress.step(uploading)
    uploaded = platform.upload(plan.archive, lambda sent: progress.part(uploading, sent, size))
    release = Release(
        spec=plan.spec,
        code=uploaded.digest,
        requirements=plan.function.requirements.text,
        alias=wish.alias,
        publish=wish.publish or bool(wish.alias),
        description=wish.description,
    )
    version = platform.deploy(name, release, progress.step)
    progress.done(f"deployed, version {version.qualifier}, {output.about(len(plan.archive))} of code")
    return version


def _urls(gateway: str, namespace: str, function: ProjectFunction, alias: str) -> list[dict[str, str]]:
    qualifier = f":{alias}" if alias else ""
    urls = [{"url": f"{gateway}/fn/{namespace}/{function.name}{qualifier}", "auth": "key", "methods": "ANY"}]
    for trigger in function.spec.triggers:
        if trigger.http is not None:
            http = trigger.http
            urls.append({"url": f"{gateway}{http.path}", "auth": http.auth, "methods": " ".join(http.methods)})
        if trigger.webhook is not None:
            hook = trigger.webhook
            urls.append({"url": f"{gateway}{hook.path}", "auth": f"signed, {hook.scheme}", "methods": "POST"})
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
