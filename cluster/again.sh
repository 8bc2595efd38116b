#!/usr/bin/env bash
# again.sh COMMAND...: run it, and again, 5 times at most, where a signal cut it off (not Ctrl-C, and not `ray job stop`).
# At the end the tracking server's database is kept on the shared storage.
for again in 1 2 3 4 5 -; do
    "$@"
    status=$?
    if [ $status -le 128 ] || [ $status = 130 ] || [ $status = 143 ] || [ $again = - ]; then
        break
    fi
    echo "The driver was cut off by signal $((status - 128)); it is started again ($again of 5) and goes on."
    sleep 5
done
[ ! -f ~/.bias-transfer/postgresql_bin ] || bash "$(dirname "$0")/backup.sh" once || echo "The tracking server's database could not be backed up."
exit $status
