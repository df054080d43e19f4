#!/usr/bin/env bash
# Makes .venv with the project and its test tools. Quick when nothing changed; safe to repeat.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  python=$(bash scripts/interpreter.sh)
  echo "Creating .venv with $("$python" --version) ($python) ..." >&2
  rm -rf .venv
  "$python" -m venv .venv
fi

mkdir -p .state
export FUYUN_COMPILE=0 # compiled modules would hide the source's later edits
echo "Installing Fuyun and its test tools into .venv ..." >&2
# uv resolves and unpacks in seconds what takes pip a minute; pip brings uv, and is the way back when uv cannot run.
log=.state/install.log
if .venv/bin/python -m pip install -q 'uv>=0.8' >"$log" 2>&1 && \
  .venv/bin/uv pip install -q --compile-bytecode --python .venv/bin/python -e '.[dev]' >>"$log" 2>&1; then
  :
elif ! .venv/bin/python -m pip install -q -e '.[dev]' >>"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
.venv/bin/fuyun --version >/dev/null || { echo "The installed fuyun command does not run." >&2; exit 1; }
# Runtime image (docs/guide/images.md), and what the images of its tests are made of.
bash scripts/packages.sh skopeo umoci busybox-static || echo "Without these packages runtime image does not work." >&2
# Isolation classes oci:crun and oci:runc (docs/guide/isolation.md), and the tests of them.
bash scripts/packages.sh crun runc || echo "Without these packages there are no isolation classes oci:crun, oci:runc." >&2
# Network policies of functions, and the tests of them (docs/guide/network.md).
bash scripts/packages.sh nftables slirp4netns iproute2 || echo "Without these packages network policies cannot be enforced." >&2
