#!/usr/bin/env bash
# Set up a node: an environment in ~/.bias-transfer/environment with the packages of constraints.txt. BIAS_TRANSFER_VENV: an
# existing environment to use instead.
set -euo pipefail
umask 077
project=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p ~/.bias-transfer/shared

venv=${BIAS_TRANSFER_VENV:-$HOME/.bias-transfer/environment}
if [ -z "${BIAS_TRANSFER_VENV:-}" ]; then
    python=$(command -v python3.13 || command -v python3.12 || command -v python3.11) || {
        echo "Error: Python 3.11, 3.12 or 3.13 is needed on every node" >&2
        exit 1
    }
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        bash "$project/cluster/packages.sh" "$(basename "$python")-venv"
    fi
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --constraint "$project/constraints.txt" --editable "$project[cluster]"
fi
echo "$venv" > ~/.bias-transfer/venv

if command -v nvidia-smi > /dev/null && nvidia-smi > /dev/null 2>&1; then
    "$venv/bin/python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available() and "Error: torch cannot use this GPU: is its driver too old?")'
fi

line="source $project/cluster/env.sh  # bias-transfer"
grep -qxF "$line" ~/.bashrc 2>/dev/null || echo "$line" >> ~/.bashrc
