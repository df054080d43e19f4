"""What names an image."""

from __future__ import annotations

import pytest

from fuyun.domain.errors import BadRequest
from fuyun.domain.functions import FunctionSpec, Isolation
from fuyun.domain.images import check_image, is_local, is_plain, without_tag
from fuyun.domain.specs import check_spec

SUM = "sha256:" + "a1" * 32


@pytest.mark.parametrize(
    "image",
    ["./image", "../a b.tar", "/srv/image", "busybox", "busybox:1.36", "team/site:v1.2_3-x", f"example.com/a/b@{SUM}",
     f"localhost:5000/site:v1@{SUM}", "[::1]:5000/site", "my--site/a__b.c"],
)  # fmt: skip
def test_images_have_names(image: str) -> None:
    assert check_image(image) == image
    assert is_local(image) == image.startswith((".", "/"))


@pytest.mark.parametrize(
    "image",
    [
        "",
        "Site:v1",
        "site:",
        "site@sha256:12",
        "site v1",
        "--version",
        "-a",
        "http://a/b",
        "a//b",
        "./a\nb",
        "a/" * 600,
    ],
)
def test_what_names_none_is_refused(image: str) -> None:
    with pytest.raises(BadRequest, match="names no image") as caught:
        check_image(image)
    assert caught.value.fields["path"] == "image"


@pytest.mark.parametrize(
    ("image", "plain"),
    [("localhost/a", True), ("localhost:5000/a", True), ("127.0.0.1:5000/a:b", True), ("127.9.9.9/a", True),
     ("[::1]:1/a", True),
     ("10.0.0.1:5000/a", False), ("example.com/a", False), ("localhost.example.com/a", False), ("site", False)],
)  # fmt: skip
def test_only_loopback_is_asked_without_tls(image: str, plain: bool) -> None:
    assert is_plain(image) is plain


def test_a_digest_stands_without_the_tag() -> None:
    assert without_tag(f"localhost:5000/a/site:v1@{SUM}") == f"localhost:5000/a/site@{SUM}"
    assert without_tag("localhost:5000/site:v1") == "localhost:5000/site:v1"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": ""}, "image: there is none"),
        ({"isolation": "process"}, "isolation: an image turns to a root of its own"),
        ({"layers": ("fonts:1",)}, "layers: an image has none"),
        ({"runtime": "python3"}, "image: runtime python3 has none"),
        ({"protocol": "custom", "command": "httpd"}, "command: runtime image has none"),
        ({"env": {"PORT": "80"}}, "env.PORT: '80' is no port"),
    ],
)
def test_an_image_has_no_layers_and_a_root(changes: dict[str, object], said: str) -> None:
    spec = {"runtime": "image", "image": "./image", **changes}
    with pytest.raises(BadRequest, match=said):
        check_spec(FunctionSpec(**spec))  # type: ignore[arg-type]
    assert check_spec(FunctionSpec(runtime="image", image="./image")).is_server
    assert not check_spec(FunctionSpec(runtime="image", image="./image", protocol="custom")).is_server


@pytest.mark.parametrize("isolation", ["process", "oci:crun", "oci:runc"])
def test_an_image_runs_in_a_sandbox_and_in_no_other_class(isolation: Isolation) -> None:
    with pytest.raises(BadRequest) as refused:
        check_spec(FunctionSpec(runtime="image", image="./image", isolation=isolation))
    assert f"which {isolation!r} does not give" in refused.value.detail
    assert refused.value.hint == "use isolation: sandbox"
