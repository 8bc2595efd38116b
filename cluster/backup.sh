#!/usr/bin/env bash
# backup.sh loop|once|restore BIN: the tracking server's database, to and from the shared storage: `ray down` deletes the head's disk.
set -euo pipefail
state=$HOME/.bias-transfer
storage=$(cat "$state/shared/storage") python=$(cat "$state/venv")/bin/python
export PGPASSFILE=$state/pgpass PGUSER=bias_transfer PGHOST=$state/socket
[ -n "$storage" ] || exit 0
copy() { "$python" -c 'import sys; from pyarrow import fs; fs.copy_files(*sys.argv[1:])' "$1" "$2"; }
there() { "$python" -c 'import sys; from pyarrow import fs; a, b = fs.FileSystem.from_uri(sys.argv[1]); sys.exit(not a.get_file_info(b).is_file)' "$1"; }
case $1 in
    once)
        "$2/pg_dump" -Fc -f "$state/mlflow.dump" mlflow
        copy "$state/mlflow.dump" "$storage/mlflow.dump"
        ;;
    loop)
        while sleep 600; do bash "$0" once "$2"; done
        ;;
    restore)
        if there "$storage/mlflow.dump"; then
            copy "$storage/mlflow.dump" "$state/mlflow.dump"
            "$2/pg_restore" --exit-on-error --no-owner -d mlflow "$state/mlflow.dump"
            echo "The tracking server's database was restored from $storage/mlflow.dump"
        fi
        ;;
esac
