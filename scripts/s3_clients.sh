#!/usr/bin/env bash
# Walks S3's own clients through what people do with them, against a platform that is started for it, and writes
# docs/contracts/s3-clients.md. Each client has an environment of its own in .state/s3clients. Two minutes once they are there.
set -euo pipefail
cd "$(dirname "$0")/.."

state=.state/s3clients
mkdir -p "$state"

environment() { # NAME REQUIREMENT...
  local name=$1
  shift
  [ -e "$state/$name/ready" ] && return
  echo "Installing $name ..." >&2
  rm -rf "${state:?}/$name"
  .venv/bin/uv venv -q --python .venv/bin/python "$state/$name"
  .venv/bin/uv pip install -q --python "$state/$name/bin/python" "$@"
  touch "$state/$name/ready"
}

environment boto3 'boto3>=1.40'
environment awscli awscli
environment s3cmd s3cmd python-magic
environment s3fs s3fs
environment pyarrow pyarrow
environment duckdb 'duckdb==1.5.5' 'duckdb-extension-httpfs==1.5.5' 'boto3>=1.40'

rclone=$(command -v rclone || true)
if [ -z "$rclone" ]; then # unpacked below .state: nothing is installed, no right is needed
  if [ ! -x "$state/rclone/usr/bin/rclone" ]; then
    echo "Fetching rclone ..." >&2
    mkdir -p "$state/rclone"
    (cd "$state/rclone" && apt-get download -qq rclone && dpkg-deb -x rclone_*.deb . && rm rclone_*.deb)
  fi
  rclone=$PWD/$state/rclone/usr/bin/rclone
fi
RCLONE=$rclone exec .venv/bin/python -m scripts.s3clients.run "$state" "$@"
