#!/usr/bin/env bash
# Lint and the tests; about eleven minutes on two cores after the installation. Arguments go to pytest: `-m slow` runs those that take
# minutes each.
# Real data is tested where LAWFT_LAWQA_DIR, LAWFT_QWEN2_TOKENIZER and LAWFT_LLM_ANSWERS name it; those tests are skipped elsewhere.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/install.sh" dev

ruff check .
# Two workers with one thread each: two with two threads would wait for each other.
OMP_NUM_THREADS=1 python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@" # the files in the order of tests/conftest.py
