#!/usr/bin/env bash
# backup.sh loop|once|restore: copy MLflow's database to or from the shared storage, since `ray down` deletes the head's disk.
set -euo pipefail
state=$HOME/.bias-transfer
storage=$(cat "$state/shared/storage") bin=$(cat "$state/postgresql_bin")
export PGPASSFILE=$state/pgpass PGUSER=bias_transfer PGHOST=$state/socket
[ -n "$storage" ] || exit 0
python() { "$(cat "$state/venv")/bin/python" - "$@"; }
case $1 in
    once)
        dump=$(mktemp "$state/dump.XXXXXX")
        trap 'rm -f "$dump"' EXIT
        "$bin/pg_dump" -Fc -f "$dump" mlflow
        python "$dump" "$storage/mlflow.dump" << 'PYTHON'
import sys

from pyarrow import fs

source, target = sys.argv[1:]
fs.copy_files(source, f"{target}.new")
system, path = fs.FileSystem.from_uri(target)
system.move(f"{path}.new", path)
PYTHON
        ;;
    loop)
        while sleep 600; do bash "$0" once; done
        ;;
    restore)
        python "$storage/mlflow.dump" "$state/mlflow.dump" << 'PYTHON'
import sys

from pyarrow import fs

source, target = sys.argv[1:]
system, path = fs.FileSystem.from_uri(source)
if system.get_file_info(path).is_file:
    fs.copy_files(source, target)
PYTHON
        if [ -f "$state/mlflow.dump" ]; then
            "$bin/pg_restore" --exit-on-error --no-owner -d mlflow "$state/mlflow.dump"
            rm "$state/mlflow.dump"
            echo "MLflow's database was restored from $storage/mlflow.dump"
        fi
        ;;
esac
