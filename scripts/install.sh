# Sourced by the other scripts: makes .venv in the repository and installs the package with the tested versions.
# Usage: source scripts/install.sh [EXTRA]     e.g. source scripts/install.sh dev

cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "Python 3.11 or later is needed; none was found (set PYTHON=/path/to/python)." >&2
  return 1
}

install_lawft() {
  local extra=${1:+[$1]} stamp=.venv/.installed python
  local wanted="$(cksum pyproject.toml constraints.txt) $PWD ${1:-}"
  [ -x .venv/bin/python ] || { python=$(find_python) && "$python" -m venv .venv; } || return 1
  if ! grep -qsF "$wanted" "$stamp"; then
    echo "== Installing into .venv (the first time this takes several minutes) =="
    # torch first and by itself, so that the pinned build is taken whatever the other packages would prefer.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$(grep '^torch==' constraints.txt)" -c constraints.txt
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".$extra" -c constraints.txt
    echo "$wanted" >> "$stamp"
  fi
}

install_lawft "${1:-}"
export PATH="$PWD/.venv/bin:$PATH"
