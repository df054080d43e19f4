#!/usr/bin/env bash
# Builds AWS's Node client of the Lambda Runtime API for tests/e2e/test_runtime_api.py and prints its folder. It brings
# curl as source, which takes minutes, so all checkouts of a user share one.
set -euo pipefail
cd "$(dirname "$0")/.."

version=3.3.0
home=${XDG_CACHE_HOME:-$HOME/.cache}/fuyun-tests/aws-lambda-ric-$version
built=$home/node_modules/aws-lambda-ric
mkdir -p "$home"
exec 9>"$home.lock"
flock 9
if [ ! -f "$home/complete" ]; then
  packages=(make g++ cmake autoconf automake libtool)
  command -v node >/dev/null || packages+=(nodejs)
  command -v npm >/dev/null || packages+=(npm)
  [ -f /usr/include/node/node.h ] || packages+=(libnode-dev)
  bash scripts/packages.sh "${packages[@]}"
  echo "Building aws-lambda-ric $version for the tests ..." >&2
  rm -rf "$home/node_modules"
  echo '{"name": "ric", "version": "1.0.0", "private": true}' >"$home/package.json"
  # The headers of Node are the system's: node-gyp would load them from the network.
  if ! (cd "$home" && MAKEFLAGS=-j2 npm_config_nodedir=/usr npm install --no-audit --no-fund "aws-lambda-ric@$version") \
    >"$home.log" 2>&1 || [ ! -f "$built/dist/rapid-client.node" ]; then
    tail -20 "$home.log" >&2
    exit 1
  fi
  touch "$home/complete"
fi
echo "$built"
