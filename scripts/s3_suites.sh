#!/usr/bin/env bash
# Runs s3transfer's integration tests and moto's tests of S3 against S3 of a platform, and writes
# docs/contracts/s3-results.md. Takes a quarter of an hour; what it needs it keeps in .state/s3suites.
set -euo pipefail
cd "$(dirname "$0")/.."

state=.state/s3suites
mkdir -p "$state"
if [ ! -e "$state/ready" ]; then
  .venv/bin/python -m pip download -q --no-deps --no-binary :all: -d "$state" 'moto==5.2.5' 's3transfer==0.19.3'
  for archive in "$state"/*.tar.gz; do tar -xzf "$archive" -C "$state"; done
  .venv/bin/uv venv -q --python .venv/bin/python "$state/venv"
  .venv/bin/uv pip install -q --python "$state/venv/bin/python" \
    "$state/moto-5.2.5[s3,server]" boto3 freezegun pytest pytest-timeout requests
  touch "$state/ready"
fi
exec .venv/bin/python -m scripts.s3suites.run "$state" "$@"
