#!/usr/bin/env bash
# What only tests of programs in other languages need: a C compiler, Node.js, a JDK, and the packages of their applications.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v curl >/dev/null || bash scripts/packages.sh curl
command -v gcc >/dev/null || bash scripts/packages.sh gcc libc6-dev
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
  bash scripts/packages.sh nodejs npm
fi
# Tests make clusters of their own; the package is not to make and start one.
if ! command -v initdb >/dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
  bash scripts/packages.sh postgresql-common
  conf=/etc/postgresql-common/createcluster.conf
  [ ! -w $conf ] || sed -i 's/^#\? *create_main_cluster *=.*/create_main_cluster = false/' $conf
  bash scripts/packages.sh postgresql
fi
command -v javac >/dev/null || bash scripts/packages.sh openjdk-17-jdk-headless
# Brokers, for the tests of their triggers: each test runs its own.
bash scripts/brokers.sh install
# Takes a minute or two the first time; the test that needs it waits for it.
bash scripts/ric.sh >.state/ric.log 2>&1 </dev/null &

application=tests/e2e/express
place=.state/express
if ! cmp -s "$application/package-lock.json" "$place/package-lock.json" || [ ! -d "$place/node_modules/express" ]; then
  echo "Installing Express for the tests ..." >&2
  rm -rf "$place"
  mkdir -p "$place"
  cp "$application/package.json" "$application/package-lock.json" "$place"
  npm ci --prefix "$place" --ignore-scripts --no-audit --no-fund --silent
fi
