"""`fuyun config`: which platform the commands talk to, and the platform's own knobs."""

from __future__ import annotations

from typing import Annotated

import typer

from fuyun.cli import output
from fuyun.cli.session import JsonOption, command, noun
from fuyun.domain.errors import BadRequest


def add(app: typer.Typer) -> None:
    """Register the noun."""
    config = noun("config", "The configuration of this command line, and the platform's settings.")
    command(config, "show")(show)
    command(config, "set")(set_)
    command(config, "use")(use)
    command(config, "path")(path)
    command(config, "settings")(settings)
    command(config, "schema")(schema)
    app.add_typer(config)


def show(
    key: Annotated[bool, typer.Option("--key", help="Print the key alone, for a script.")] = False,
    json: JsonOption = False,
) -> None:
    """Show which platform is in use, and where that is written."""
    from dataclasses import asdict

    from fuyun.client.config import config_path, load_config, load_profile

    profile = load_profile()
    if key:
        if not profile.key:
            raise BadRequest("no key is configured", hint="`fuyun up` writes one, or set FUYUN_KEY")
        return output.data(profile.key)
    shown = asdict(profile) | {"key": f"{profile.key[:8]}..." if profile.key else ""}
    others = [other.api for other in load_config().others]
    if json:
        return output.as_json(shown | {"others": others, "path": str(config_path())})
    output.pairs([*shown.items(), *(("other", api) for api in others), ("path", config_path())])


def set_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="api, gateway, key or namespace.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Its value; `-` reads it from stdin.")],
) -> None:
    """Change one value of the configuration."""
    from dataclasses import replace

    from fuyun.cli.session import read_input
    from fuyun.client.config import FIELDS, Config, load_config, save_config
    from fuyun.domain.names import check_name, nearest

    if name not in FIELDS or name == "data":
        close = nearest(name, FIELDS)
        raise BadRequest(
            f"{name!r} is not in the configuration" + (f"; did you mean {close!r}?" if close else ""),
            hint="api, gateway, key and namespace are",
        )
    if value == "-":
        value = read_input(value, name).decode("utf-8", "replace").strip()
    if name == "namespace":
        check_name("namespace", value)
    if name in ("api", "gateway") and not value.startswith(("http://", "https://")):
        raise BadRequest(f"{value!r} is not an address", hint="write one like http://127.0.0.1:8081")
    config = load_config()
    values = {name: value.rstrip("/") if name in ("api", "gateway") else value}
    where = save_config(Config(replace(config.current, **values), config.others))
    output.words(f"set {name} in {where}")


def use(api: Annotated[str, typer.Argument(metavar="URL", help="Address of the API of a known platform.")]) -> None:
    """Talk to another platform that was started or configured before."""
    from fuyun.client import config as file

    file.save_config(file.use(file.load_config(), api))
    output.words(f"using {api}")


def path() -> None:
    """Print where the configuration is."""
    from fuyun.client.config import config_path

    output.data(str(config_path()))


def settings(json: JsonOption = False) -> None:
    """List every setting of the platform: name, default, unit and reason. See `fuyun up --help` for how to set them."""
    import msgspec

    from fuyun.settings import Settings

    rows = []
    for field in msgspec.structs.fields(Settings):
        kind, text = field.type, ""
        for extra in getattr(kind, "__metadata__", ()):
            text = getattr(extra, "description", "") or text
        rows.append(
            {"name": field.name, "variable": f"FUYUN_{field.name.upper()}", "default": field.default, "what": text}
        )
    if json:
        return output.as_json(rows)
    output.table(("NAME", "VARIABLE", "DEFAULT", "WHAT"), [tuple(row.values()) for row in rows])


def schema() -> None:
    """Print the JSON Schema of fuyun.yaml, for editors."""
    from fuyun.client.fields import json_schema

    output.as_json(json_schema())
