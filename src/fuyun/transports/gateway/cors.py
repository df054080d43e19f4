"""Cross-origin rules of a route (Fetch standard, section "CORS protocol")."""

from __future__ import annotations

from fuyun.domain.functions import Cors
from fuyun.services.routes import Route


def _allowed_origin(cors: Cors, origin: str) -> str:
    """Value of Access-Control-Allow-Origin, "" when the origin is not allowed."""
    if "*" in cors.allow_origins:
        return origin if cors.allow_credentials else "*"
    return origin if origin in cors.allow_origins else ""


def is_preflight(method: str, fields: dict[str, str]) -> bool:
    """True for the question a browser asks before the request."""
    return method == "OPTIONS" and "origin" in fields and "access-control-request-method" in fields


def answer_lines(cors: Cors, origin: str | None) -> str:
    """Lines for an answer to a request of `origin`. The answer varies by Origin unless every origin gets the same."""
    fixed = "*" in cors.allow_origins and not cors.allow_credentials
    lines = "" if fixed else "Vary: Origin\r\n"
    allowed = _allowed_origin(cors, origin) if origin else ""
    if not allowed:
        return lines
    lines += f"Access-Control-Allow-Origin: {allowed}\r\n"
    if cors.allow_credentials:
        lines += "Access-Control-Allow-Credentials: true\r\n"
    if cors.expose_headers:
        lines += f"Access-Control-Expose-Headers: {', '.join(cors.expose_headers)}\r\n"
    return lines


def preflight_lines(route: Route, cors: Cors, fields: dict[str, str]) -> str:
    """Lines for the 204 that answers a preflight; without Access-Control lines when the origin is not allowed."""
    lines = "Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers\r\n"
    allowed = _allowed_origin(cors, fields["origin"])
    if not allowed:
        return lines
    lines += f"Access-Control-Allow-Origin: {allowed}\r\n"
    if cors.allow_credentials:
        lines += "Access-Control-Allow-Credentials: true\r\n"
    asked = fields["access-control-request-method"]
    methods = ", ".join(sorted(route.methods)) or asked if "*" in cors.allow_methods else ", ".join(cors.allow_methods)
    lines += f"Access-Control-Allow-Methods: {methods}\r\n"
    headers = fields.get("access-control-request-headers", "")
    if "*" not in cors.allow_headers:
        headers = ", ".join(cors.allow_headers)
    if headers:
        lines += f"Access-Control-Allow-Headers: {headers}\r\n"
    return lines + f"Access-Control-Max-Age: {cors.max_age_s}\r\n"
