#!/usr/bin/env bash
# The head, before `ray down` of machines of one's own: a last backup, then the MLflow server and PostgreSQL end.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bash "$here/backup.sh" once
for name in backup mlflow postgresql; do bash "$here/keep.sh" "$name" --stop; done
