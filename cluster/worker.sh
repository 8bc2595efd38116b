#!/usr/bin/env bash
# worker.sh HEAD: keep an ssh tunnel to MLflow, which listens on the head's loopback alone, for as long as Ray runs here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
shared=$HOME/.bias-transfer/shared
bash "$here/keep.sh" tunnel --stop
KEEP_WHILE="pgrep -u $(id -u) -x raylet > /dev/null" bash "$here/keep.sh" tunnel ssh -N -T -F none -i "$shared/tunnel_key" -L 127.0.0.1:5000:127.0.0.1:5000 \
    -o BatchMode=yes -o IdentitiesOnly=yes -o ExitOnForwardFailure=yes -o ConnectTimeout=10 \
    -o ServerAliveInterval=10 -o ServerAliveCountMax=3 \
    -o StrictHostKeyChecking=yes -o HostKeyAlias=bias-transfer-head -o "UserKnownHostsFile=$shared/known_hosts" \
    "$(id -un)@$1"
bash "$here/wait.sh" http://127.0.0.1:5000/health 60 "$(cat ~/.bias-transfer/venv)/bin/python"
