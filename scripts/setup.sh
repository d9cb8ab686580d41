#!/usr/bin/env bash
# Sets up everything that Handloom needs on Debian/Ubuntu: system libraries, virtual environment,
# locked Python packages. Safe to run again; does nothing that is already done.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV="${VENV:-.venv}"
UV_VERSION=0.13.9
PACKAGES=(ffmpeg libegl1 libgl1-mesa-dri libgles2 libegl-mesa0 libosmesa6)

missing=()
command -v ffmpeg >/dev/null || missing+=(ffmpeg)
ldconfig -p | grep -q libEGL.so.1 || missing+=(libegl1 libgl1-mesa-dri libgles2 libegl-mesa0)
ldconfig -p | grep -q libOSMesa.so || missing+=(libosmesa6)
PYTHON="${PYTHON:-python3.11}"
command -v "$PYTHON" >/dev/null || missing+=(python3.11)
if command -v "$PYTHON" >/dev/null && ! "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
  missing+=(python3.11-venv)
fi
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing system packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "setup: system packages are missing. Install them, then run this again:" >&2
    echo "  sudo apt-get install ${missing[*]}" >&2
    exit 2
  fi
fi

if [ ! -x "$VENV/bin/python" ]; then
  "$PYTHON" -m venv "$VENV"
fi
if [ "$("$VENV/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
  "$VENV/bin/python" -m pip install -q "uv==$UV_VERSION"
fi
# The lock carries every version and hash. --no-deps: what some packages declare is not what they
# need (docs/install.md); the lock was resolved with the corrected metadata in pyproject.toml.
export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-300}"
VIRTUAL_ENV="$PWD/$VENV" "$VENV/bin/uv" pip install -q --no-deps --require-hashes -r requirements.lock
VIRTUAL_ENV="$PWD/$VENV" "$VENV/bin/uv" pip install -q --no-deps -e .
touch "$VENV/.stamp"
echo "setup: done ($("$VENV/bin/python" --version), $(du -sh "$VENV" | cut -f1))"
