#!/usr/bin/env bash
# Prints the Python (3.11 or newer, with venv and ensurepip) that .venv is made with; installs Debian's when it must.
# A build with profile-guided optimisation comes first: the platform answers more calls on it.
set -euo pipefail
cd "$(dirname "$0")/.."

candidates() {
  local name path
  for name in python3.11 python3.12 python3.13 python3.14 python3; do
    { type -aP "$name" || true; } | while read -r path; do
      "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$path" || true
    done
  done
}

optimised_first() {
  local path plain=()
  while read -r path; do
    if "$path" -I src/fuyun/runtime/pythons.py 2>/dev/null; then echo "$path"; else plain+=("$path"); fi
  done
  [ ${#plain[@]} -eq 0 ] || printf '%s\n' "${plain[@]}"
}

makes_environments() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

install_venv() {
  [ "$("$1" -I -c 'import sys; print(sys.base_prefix)')" = /usr ] || return 1
  bash scripts/packages.sh "$("$1" -I -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2 ||
    bash scripts/packages.sh python3-venv >&2
}

choose() {
  local path paths
  mapfile -t paths < <(candidates | optimised_first)
  for path in "${paths[@]}"; do
    [ -n "$path" ] || continue
    if makes_environments "$path" || { install_venv "$path" && makes_environments "$path"; }; then
      echo "$path"
      return
    fi
    echo "$path has no venv module; looking for another." >&2
  done
}

python=$(choose)
if [ -z "$python" ]; then
  bash scripts/packages.sh python3 python3-venv >&2
  python=$(choose)
  [ -n "$python" ] || { echo "Python 3.11 or newer is needed; this system has none to install." >&2; exit 1; }
fi
echo "$python"
