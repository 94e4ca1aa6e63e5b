#!/usr/bin/env bash
# The whole way on a laptop's CPU: sample data -> recipe -> adapter -> verdict. No GPU, no account, no download of weights.
# It can be run again at any time; it replaces its own results (data/sample and runs/tiny_direct_gold) and nothing else.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"

export HF_HUB_OFFLINE=1
# More threads than cores make a small model several times slower.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(getconf _NPROCESSORS_ONLN)}"
started=$SECONDS

echo "== 1/4 Data: 924 questions on fictional statutes, split by group =="
lawft data sample --force

echo "== 2/4 Check: which tokens are trained, and does anything leak =="
lawft check tiny_direct_gold

echo "== 3/4 Training: LoRA on the bundled tiny model (about three minutes on two cores) =="
accelerate launch --config_file accelerate_configs/cpu.yaml lawft_trl/sft.py recipes/tiny_direct_gold.yaml --force

echo "== 4/4 Evaluation: base and tuned on the held-out questions =="
lawft eval runs/tiny_direct_gold --force

echo
echo "Done in $((SECONDS - started)) s without the installation. Read runs/tiny_direct_gold/eval/test_276/report.md"
