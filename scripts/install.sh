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
  local wanted
  wanted="$(cat pyproject.toml constraints.txt | cksum) $PWD [${1:-}]" # one line: what was installed, where, with which extra
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then # also after a `venv` that broke off half-way
    python=$(find_python) || return 1
    rm -rf .venv
    if ! "$python" -m venv .venv; then
      rm -rf .venv
      echo "$python -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
      return 1
    fi
  fi
  if ! grep -qsxF "$wanted" "$stamp"; then
    echo "== Installing into .venv (the first time this takes several minutes) =="
    # torch first and by itself, so that the pinned build is taken whatever the other packages would prefer.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$(grep '^torch==' constraints.txt)" -c constraints.txt
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".$extra" -c constraints.txt
    echo "$wanted" >> "$stamp"
  fi
}

install_lawft "${1:-}"
export PATH="$PWD/.venv/bin:$PATH"
