#!/usr/bin/env bash
# Builds AWS's Node client of the Lambda Runtime API in .state/ric, for tests/e2e/test_runtime_api.py. It brings curl as
# source: minutes the first time, nothing after that.
set -euo pipefail
cd "$(dirname "$0")/.."

version=3.3.0
if [ -f ".state/ric/$version" ]; then exit 0; fi
packages=(make g++ cmake autoconf automake libtool)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
[ -f /usr/include/node/node.h ] || packages+=(libnode-dev)
bash scripts/packages.sh "${packages[@]}"

echo "Building aws-lambda-ric $version for the tests ..." >&2
rm -rf .state/ric
mkdir -p .state/ric
echo '{"name": "ric", "version": "1.0.0", "private": true}' >.state/ric/package.json
log=$PWD/.state/ric.log
# The headers of Node are the system's: node-gyp would load them from the network.
if ! (cd .state/ric && npm_config_nodedir=/usr npm install --no-audit --no-fund "aws-lambda-ric@$version") >"$log" 2>&1 ||
  [ ! -f .state/ric/node_modules/aws-lambda-ric/dist/rapid-client.node ]; then
  tail -20 "$log" >&2
  exit 1
fi
touch ".state/ric/$version"
