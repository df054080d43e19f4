"""What names an OCI image: a folder or archive that is uploaded, or a reference that a registry is asked for."""

from __future__ import annotations

import ipaddress
import re

from fuyun.domain.errors import BadRequest

#: Grammar of a reference (distribution, reference.go).
_HOST = r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<host>{_HOST})/)?(?P<name>{_PART}(?:/{_PART})*)(?::(?P<tag>[\w][\w.-]{{0,127}}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


def is_local(image: str) -> bool:
    """Whether it is a path: it comes with the code, from wherever the deployment is made."""
    return image.startswith(("./", "../", "/")) or image in (".", "..")


def check_image(image: str) -> str:
    """`image` itself or BadRequest."""
    if len(image) > 1000 or not image.isprintable() or not (is_local(image) or _REFERENCE.fullmatch(image)):
        raise BadRequest(
            f"image: {image[:200]!r} names no image",
            hint="write ./FOLDER or ./ARCHIVE.tar for one of your own, or REGISTRY/NAME:TAG",
            path="image",
        )
    return image


def is_plain(image: str) -> bool:
    """Whether its registry is on this machine, and may be asked without TLS."""
    found = _REFERENCE.fullmatch(image)
    host = (found["host"] or "") if found else ""
    host = host[1 : host.index("]")] if host.startswith("[") else host.partition(":")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_tag(image: str) -> str:
    """The reference, without its tag where it has a digest as well: tools take one of them."""
    name, at, digest = image.partition("@")
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}{at}{digest}" if at else image
