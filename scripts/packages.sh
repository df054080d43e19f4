#!/usr/bin/env bash
# Installs Debian packages when they are missing and we may; else says what to run. Usage: packages.sh NAME...
set -euo pipefail

missing=()
for name in "$@"; do
  dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "Missing: ${missing[*]}. Install them with this system's package manager, then run the command again." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
  else
    echo "Missing: ${missing[*]}. Run: sudo apt-get install ${missing[*]}, then the command again." >&2
    exit 1
  fi
fi
echo "Installing ${missing[*]} ..." >&2
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# What is installed starts no service: Debian asks this file (invoke-rc.d(8)), and 101 forbids it.
policy=/usr/sbin/policy-rc.d
ours=
finish() {
  rm -f "$log"
  [ -z "$ours" ] || "${as_root[@]}" rm -f "$policy"
}
trap finish EXIT
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod +x "$policy"
  ours=yes
fi
if ! "${as_root[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
  # A machine that never updated its lists has no candidates yet.
  "${as_root[@]}" apt-get update -qq >"$log" 2>&1
  "${as_root[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
fi
