"""OCI images as functions: on their own root, from a folder, an archive or a registry, as root and without rights."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.images import ARCHITECTURE, INDEX, MANIFEST, Image, Registry, busybox, digest, index_of, layer
from tests.running import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

#: A CGI program of busybox's httpd: answers what it sees.
WHO = rb"""#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
echo "user $(id -u) $(id -g)"
echo "pwd $(cat /tmp/started)"
echo "root $(ls / | tr '\n' ' ')"
echo "name $NAME $OWN $HOME"
for place in /made /srv/made /etc/made /tmp/made /run/made; do
  if touch $place 2>/dev/null; then echo "wrote $place"; fi
done
cat /srv/secret
"""
SERVE = ["/bin/sh", "-c", 'pwd > /tmp/started; exec httpd -f -p "$PORT" -h "$0"']


def web_image(architecture: str = ARCHITECTURE, **config: Any) -> Image:
    files = {"srv/www/index.html": b"<h1>hello</h1>", "srv/www/cgi-bin/who": WHO, "srv/secret": b"only for its owner\n"}
    upper = {"srv/www/.wh.gone.html": b"", "srv/www/late.html": b"late"}
    lower = layer({**busybox(), **files, "srv/www/gone.html": b"gone"}, owner=1234)
    return Image([lower, layer(upper)], architecture, **{"Entrypoint": SERVE, "Cmd": ["/srv/www"], **config})


def deploy(platform: Platform, name: str, files: dict[str, bytes], image: str = "./image", **spec: Any) -> str:
    platform.deploy(name, dict(files), runtime="image", image=image, **{"concurrency": 20, **spec})
    return platform.url(name)


def test_a_folder_is_a_server_on_its_own_root(either_platform: Platform) -> None:
    """[R 20.1] [R 20.3] [R 20.4] [R 20.5]"""
    platform = either_platform
    config: dict[str, Any] = {
        "WorkingDir": "/srv/work",
        "User": "4321:55",
        "Env": ["NAME=of the image", "OWN=image", "PATH=/bin"],
    }
    url = deploy(platform, "image-folder", web_image(**config).layout(), env={"OWN": "spec"})
    assert platform.http.get(f"{url}/").text == "<h1>hello</h1>"
    assert platform.http.get(f"{url}/late.html").text == "late"
    assert platform.http.get(f"{url}/gone.html").status_code == 404
    found = platform.http.get(f"{url}/cgi-bin/who").text.splitlines()
    assert found == [
        "user 4321 55",
        "pwd /srv/work",
        "root bin dev etc proc run srv sys tmp ",
        "name of the image spec /tmp",
        "wrote /tmp/made",
        "wrote /run/made",
        "only for its owner",
    ]
    platform.remove("image-folder")


#: Answers events over the Lambda Runtime API with nothing but busybox.
LOOP = rb"""#!/bin/sh
set -eu
echo "started in $(pwd) as $(id -u)"
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation
while :; do
  wget -q -S -O /tmp/event "$api/next" 2>/tmp/head
  id=$(sed -n 's/.*Lambda-Runtime-Aws-Request-Id: //p' /tmp/head | tr -d '\r')
  echo "{\"event\": $(cat /tmp/event), \"task\": \"$LAMBDA_TASK_ROOT\", \"own\": \"$OWN\"}" >/tmp/answer
  wget -q -O /dev/null --post-file /tmp/answer "$api/$id/response"
done
"""


def test_an_archive_is_a_custom_program(either_platform: Platform) -> None:
    """[R 20.1] [R 20.2] Both kinds of archive; a program that is found on the image's PATH."""
    platform = either_platform
    files = layer({**busybox(), "opt/loop": LOOP, "data": "/opt"})
    image = Image([files], Entrypoint=["loop"], WorkingDir="/data/deep", Env=["PATH=/bin:/data", "OWN=image"])
    archives = {"oci.tar": image.oci_archive(), "docker.tar.gz": gzip.compress(image.docker_archive())}
    for name, data in archives.items():
        deploy(platform, "image-archive", {name: data}, f"./{name}", protocol="custom", concurrency=1)
        invoked = json.loads(platform.cli("invoke", "image-archive", "-d", '{"n": 1}').stdout)
        assert invoked == {"event": {"n": 1}, "task": "/opt/deep", "own": "image"}
        assert b"started in /opt/deep as 1000" in platform.cli("logs", "image-archive").stdout
        platform.remove("image-archive")


def test_a_registry_is_asked_for_this_machine_s_image(either_platform: Platform) -> None:
    """[R 20.1] [R 20.2]"""
    platform = either_platform
    image, other = web_image(), web_image(architecture="s390x", Env=["OTHER=1"])
    index = index_of({ARCHITECTURE: image, "s390x": other})
    tags = {"v1": (MANIFEST, image.manifest), "all": (INDEX, index), "big": (MANIFEST, other.manifest),
            "none": (INDEX, index_of({"s390x": other}))}  # fmt: skip
    with Registry({**image.blobs, **other.blobs}, tags) as registry:
        for reference in (f"site:v1@{digest(image.manifest)}", "site:all", "site:v1"):
            url = deploy(platform, "image-pulled", {"reference": b""}, f"{registry.address}/{reference}")
            assert platform.http.get(f"{url}/").text == "<h1>hello</h1>"
        fetched = [path for path in registry.asked if image.packed[0] in path]
        assert len(fetched) == 2, (
            registry.asked
        )  # of the index and of the image, which has been unpacked the third time
        cases = {
            "site:absent": "the registry has no such image",
            "site:none": "it has no image for this machine",
            "site:big": "is for linux/s390x, this machine is",
        }
        for reference, said in cases.items():
            name = f"{registry.address}/{reference}"
            refused = platform.try_deploy("image-pulled", {"reference": b""}, runtime="image", image=name)
            assert (refused.status_code, refused.json()["code"]) == (422, "build_failed"), refused.text
            assert said in refused.json()["detail"], refused.text
    refused = platform.try_deploy("image-pulled", {"reference": b""}, runtime="image", image=name)
    assert "the registry cannot be reached" in refused.json()["detail"]
    assert platform.http.get(f"{url}/").text == "<h1>hello</h1>"  # what served before serves on
    platform.remove("image-pulled")


CLUTTER: dict[str, dict[str, bytes]] = {
    "holds": {"a": b"", "b": b""},
    "is no tar archive": {"image.tar": b"no tar"},
    "holds neither oci-layout nor manifest.json": {"image.tar": layer({"readme": b"hello"})},
}


def test_what_cannot_run_is_refused_with_the_reason(platform: Platform) -> None:
    """[R 20.2] [R 20.4]"""

    def refused(files: dict[str, bytes], **spec: Any) -> dict[str, Any]:
        answer = platform.try_deploy("image-bad", dict(files), **{"runtime": "image", "image": "./image", **spec})
        assert not answer.is_success, answer.text
        return dict(answer.json())

    for said, files in CLUTTER.items():
        assert said in refused(files)["detail"]
    found = refused(web_image(Entrypoint=None, Cmd=None).layout())
    assert (found["code"], "neither an entrypoint nor a command" in found["detail"]) == ("handler_missing", True)
    found = refused(web_image(Entrypoint=["absent", "x"]).layout())
    assert (found["code"], "there is no absent" in found["detail"]) == ("function_load_failed", True)
    assert (
        "'nobody-here', which its /etc/passwd and /etc/group do not have"
        in refused(web_image(User="nobody-here").layout())["detail"]
    )
    assert "process" in refused(web_image().layout(), isolation="process")["detail"]
    assert refused(web_image().layout(), image="no image!")["code"] == "bad_request"
    assert refused({"handler.py": b""}, runtime="python3", image="./image")["code"] == "bad_request"


def test_a_command_takes_the_place_of_the_entrypoint(platform: Platform) -> None:
    """[R 20.4]"""
    files = web_image(Entrypoint=None, Cmd=None).layout()
    url = deploy(platform, "image-command", files, command="httpd -f -p $PORT -h /srv/www")
    assert platform.http.get(f"{url}/late.html").text == "late"
    platform.remove("image-command")


def test_links_and_devices_of_an_image_stay_inside(platform: Platform, tmp_path: Path) -> None:
    """[R 20.3] Absolute links, links above the root, and what is no file."""
    (tmp_path / "secret").write_text("the host's")
    outside = str(tmp_path / "secret")
    links = {
        "srv/www/absolute": "/srv/www/index.html",
        "srv/www/above": "../../../../../srv/www/index.html",
        "srv/www/host": outside,
        "srv/www/climb": "../../../../../../.." + outside,
    }
    odd = io.BytesIO()
    with tarfile.open(fileobj=odd, mode="w") as archive:
        for name, kind in (("srv/disk", tarfile.BLKTYPE), ("srv/tty", tarfile.CHRTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)
    image = Image([layer({**busybox(), "srv/www/index.html": b"inside", **links}), odd.getvalue()],
                  Entrypoint=SERVE, Cmd=["/srv/www"])  # fmt: skip
    url = deploy(platform, "image-links", image.layout())
    assert platform.http.get(f"{url}/absolute").text == platform.http.get(f"{url}/above").text == "inside"
    assert platform.http.get(f"{url}/host").status_code == platform.http.get(f"{url}/climb").status_code == 404
    platform.remove("image-links")
