# Sourced by the scripts beside it: strict mode, the root of the repository, and its virtual environment.
# shellcheck shell=bash
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
VENV="$ROOT/.venv"
PYTHON="$VENV/bin/python"

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 2
}

# Print the first Python of at least 3.10: $PYTHON_FOR_VENV if set, else what is on the PATH.
find_python() {
  local name
  for name in ${PYTHON_FOR_VENV:+"$PYTHON_FOR_VENV"} python3 python python3.14 python3.13 python3.12 python3.11 python3.10; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
      printf '%s\n' "$name"
      return
    fi
  done
  die "no Python >= 3.10 was found; install one, or name it in PYTHON_FOR_VENV"
}

# ensure_venv runtime|dev: make .venv if there is none that works, and install the package (editable) with the extras of
# that level, unless that was done already for this pyproject.toml. A stamp file per level remembers it.
ensure_venv() {
  local level=$1 target="$ROOT" stamp python sum
  [[ $level == dev ]] && target="$ROOT[dev]"
  if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
    python=$(find_python)
    say "making a virtual environment in .venv ($("$python" --version))"
    "$python" -m venv --clear "$VENV" ||
      die "'$python -m venv' failed; on Debian and Ubuntu install the package python3-venv, then try again"
  fi
  sum=$(cksum <"$ROOT/pyproject.toml")
  for stamp in "$VENV/.lineage-dev" "$VENV/.lineage-$level"; do
    [[ -f $stamp && $(<"$stamp") == "$sum" ]] && return
  done
  say "installing lineage-plugin${target#"$ROOT"} into .venv"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable "$target" ||
    die "the installation failed; the message above says why, and the next run tries again"
  printf '%s\n' "$sum" >"$VENV/.lineage-$level"
}

# ensure_chromium: the pages that are made are looked at in a real browser. Where there is none and packages can be
# installed without asking anybody, it is installed; elsewhere those tests are skipped and say so.
ensure_chromium() {
  local name
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" >/dev/null && return
  done
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    say "installing chromium for the tests of pages"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >/dev/null 2>&1 && return
  fi
  say "there is no Chromium: the tests of pages in a browser will be skipped"
}
