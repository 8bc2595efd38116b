#!/usr/bin/env bash
# head.sh STORAGE: set up the head: Ray's token, the key of the workers' tunnel, PostgreSQL on a socket, MLflow on loopback.
# STORAGE: s3://BUCKET/PREFIX, a folder that all nodes see, `account` (the bucket of cluster/aws_account.yaml), or `none`.
set -euo pipefail
umask 077
here=$(cd "$(dirname "$0")" && pwd)
state=$HOME/.bias-transfer shared=$HOME/.bias-transfer/shared
cd "$state"
touch is_head

if [ "$(id -u)" = 0 ]; then
    echo "Error: PostgreSQL does not run as root. Name another user in auth.ssh_user." >&2
    exit 1
fi
python=$(cat venv)/bin/python
case $1 in
    account) "$python" "$here/account_bucket.py" ~/ray_bootstrap_config.yaml > "$shared/storage" ;;
    none) : > "$shared/storage" ;;
    *) echo "$1" > "$shared/storage" ;;
esac
storage=$(cat "$shared/storage")

secret() { [ -s "$1" ] || "$python" -c 'import secrets; print(secrets.token_hex(32), end="")' > "$1"; }
secret "$shared/auth_token"
secret password

# Workers reach MLflow through ssh, with a key that can do nothing else.
[ -f "$shared/tunnel_key" ] || ssh-keygen -q -t ed25519 -N '' -C bias-transfer-tunnel -f "$shared/tunnel_key"
mkdir -p ~/.ssh
grep -q bias-transfer-tunnel ~/.ssh/authorized_keys 2>/dev/null && sed -i /bias-transfer-tunnel/d ~/.ssh/authorized_keys
echo "restrict,port-forwarding,permitopen=\"127.0.0.1:5000\",command=\"/bin/false\" $(cat "$shared/tunnel_key.pub")" >> ~/.ssh/authorized_keys
sed 's/^/bias-transfer-head /' /etc/ssh/ssh_host_*_key.pub > "$shared/known_hosts"

find_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }
if [ -z "$(find_bin)" ]; then
    bash "$here/packages.sh" postgresql
    sudo -n systemctl disable --now postgresql 2>/dev/null || true  # the project runs its own, in the home folder
fi
bin=$(find_bin)
echo "$bin" > postgresql_bin
export PGPASSFILE=$state/pgpass PGUSER=bias_transfer PGHOST=$state/socket
echo "*:*:*:bias_transfer:$(cat password)" > pgpass
mkdir -p socket
if [ ! -f postgresql/PG_VERSION ]; then
    rm -rf postgresql
    "$bin/initdb" --username=bias_transfer --pwfile=password --auth=scram-sha-256 --encoding=UTF8 --locale=C -D postgresql > initdb.log
    printf "%s\n" "listen_addresses = ''" "unix_socket_directories = '$state/socket'" "max_connections = 200" >> postgresql/postgresql.conf
fi
bash "$here/keep.sh" postgresql "$bin/postgres" -D "$state/postgresql"
for _ in $(seq 60); do "$bin/pg_isready" -q && break || sleep 0.5; done
if ! "$bin/psql" -d postgres -Atc 'select datname from pg_database' | grep -qx mlflow; then
    "$bin/createdb" mlflow
    bash "$here/backup.sh" restore || { "$bin/dropdb" mlflow; exit 1; }
fi

export MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2://bias_transfer@/mlflow?host=$state/socket"
export MLFLOW_ARTIFACTS_DESTINATION=${storage:+$storage/mlflow} MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export MLFLOW_ARTIFACTS_DESTINATION=${MLFLOW_ARTIFACTS_DESTINATION:-$state/artifacts}
PATH=$(cat venv)/bin:$PATH bash "$here/keep.sh" mlflow mlflow server --host 127.0.0.1 --port 5000 --workers "${MLFLOW_WORKERS:-4}" --serve-artifacts
bash "$here/wait.sh" http://127.0.0.1:5000/health 180 "$python"
[ -z "$storage" ] || bash "$here/keep.sh" backup bash "$here/backup.sh" loop
echo "MLflow answers on 127.0.0.1:5000; storage: ${storage:-none}"
