#!/usr/bin/env bash
# On the head of your own machines, before `ray down`: back up MLflow's database, then stop MLflow and PostgreSQL.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bash "$here/backup.sh" once
for name in backup mlflow postgresql; do bash "$here/keep.sh" "$name" --stop; done
