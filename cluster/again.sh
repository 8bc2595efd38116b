#!/usr/bin/env bash
# again.sh COMMAND...: run a command, and again up to 5 times if a signal ends it (but not Ctrl-C or `ray job stop`).
# Then back up MLflow's database to the shared storage.
for again in 1 2 3 4 5 -; do
    "$@"
    status=$?
    if [ $status -le 128 ] || [ $status = 130 ] || [ $status = 143 ] || [ $again = - ]; then
        break
    fi
    echo "The driver was ended by signal $((status - 128)) and is started again ($again of 5)."
    sleep 5
done
[ ! -f ~/.bias-transfer/postgresql_bin ] || bash "$(dirname "$0")/backup.sh" once || echo "MLflow's database could not be backed up."
exit $status
