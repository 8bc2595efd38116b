# Sourced on every node by its shells and before Ray starts: sets the environment, the token and the servers' addresses.
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH="$(cat ~/.bias-transfer/venv)/bin:$PATH" PYTHONPATH="$project"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=~/.bias-transfer/shared/auth_token
export MLFLOW_TRACKING_URI=http://127.0.0.1:5000
export RAY_USAGE_STATS_ENABLED=0 TUNE_MAX_PENDING_TRIALS_PG=64 MALLOC_ARENA_MAX=1
# Ray's Prometheus servers would answer without a token. They are off: 70000 is no valid port, and no metrics are collected.
export AUTOSCALER_METRIC_PORT=70000 DASHBOARD_METRIC_PORT=70000 RAY_enable_metrics_collection=0
if [ -s ~/.bias-transfer/shared/storage ]; then
    export BIAS_TRANSFER_STORAGE="$(cat ~/.bias-transfer/shared/storage)"
fi
if [ -f ~/.bias-transfer/is_head ]; then
    export RAY_ADDRESS=auto RAY_API_SERVER_ADDRESS=http://127.0.0.1:8265
fi
unset project
