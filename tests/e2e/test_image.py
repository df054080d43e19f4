"""OCI images as functions: on their own root, from a folder, an archive or a registry, as root and without rights."""

from __future__ import annotations

from typing import Any

import pytest

from tests.images import Image, busybox, layer
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


def web_image(**config: Any) -> Image:
    files = {"srv/www/index.html": b"<h1>hello</h1>", "srv/www/cgi-bin/who": WHO, "srv/secret": b"only for its owner\n"}
    upper = {"srv/www/.wh.gone.html": b"", "srv/www/late.html": b"late"}
    lower = layer({**busybox(), **files, "srv/www/gone.html": b"gone"}, owner=1234)
    return Image([lower, layer(upper)], **{"Entrypoint": SERVE, "Cmd": ["/srv/www"], **config})


def deploy(platform: Platform, name: str, files: dict[str, bytes], image: str = "./image", **spec: Any) -> str:
    platform.deploy(name, dict(files), runtime="image", image=image, **{"concurrency": 20, **spec})
    return platform.url(name)


def test_a_folder_is_a_server_on_its_own_root(either_platform: Platform) -> None:
    """[R 20.1] [R 20.3] [R 20.4] [R 20.5]"""
    platform = either_platform
    config = {"WorkingDir": "/srv/work", "User": "4321:55", "Env": ["NAME=of the image", "OWN=image", "PATH=/bin"]}
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
