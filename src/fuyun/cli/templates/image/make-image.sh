#!/bin/sh
# Makes ./image, an OCI layout, with umoci and Debian's busybox-static. Any tool that writes OCI images will do as well:
#   podman build . && podman save --format oci-dir ...; docker buildx build --output type=oci,dest=image.tar .
set -eu
cd "$(dirname "$0")"
rm -rf image && work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/srv"
cp "$(command -v busybox)" "$work/bin/busybox"
ln -s busybox "$work/bin/sh"
ln -s busybox "$work/bin/httpd"
cp -R site/. "$work/srv/"
umoci init --layout image
umoci new --image image:latest
umoci insert --rootless --image image:latest "$work/bin" /bin
umoci insert --rootless --image image:latest "$work/srv" /srv
umoci config --image image:latest --config.workingdir /srv --config.user 1000 \
  --config.entrypoint /bin/sh --config.entrypoint -c --config.entrypoint 'exec httpd -f -p "$PORT"'
umoci gc --layout image
