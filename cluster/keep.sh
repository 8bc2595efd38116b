#!/usr/bin/env bash
# keep.sh NAME COMMAND...: run a command in the background, and again whenever it ends. Nothing happens if NAME runs already.
# KEEP_WHILE: a command; once it fails, NAME is not started again. keep.sh NAME --stop: end it.
# The log is ~/.bias-transfer/NAME.log.
set -euo pipefail
state=~/.bias-transfer name=$1
shift
if [ "$1" = --stop ]; then
    if [ -f "$state/$name.pid" ] && ! flock -n "$state/$name.lock" true; then
        kill -- "-$(cat "$state/$name.pid")" || true
        for _ in $(seq 50); do flock -n "$state/$name.lock" true && break || sleep 0.2; done
    fi
    rm -f "$state/$name.pid"
    exit
fi
if [ -z "${KEPT:-}" ]; then
    KEPT=1 setsid bash "$0" "$name" "$@" < /dev/null >> "$state/$name.log" 2>&1 &
    exit
fi
unset KEPT
exec 9> "$state/$name.lock"
flock -n 9 || exit 0
echo $$ > "$state/$name.pid"
while :; do
    "$@" 9>&- || true
    bash -c "${KEEP_WHILE:-true}" 9>&- || exit 0
    echo "$(date -u +%FT%TZ) $name ended and is started again in 2 s"
    sleep 2
done
