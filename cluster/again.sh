#!/usr/bin/env bash
# again.sh COMMAND...: run it, and again, 5 times at most, where a signal cut it off (not Ctrl-C, and not `ray job stop`).
for again in 1 2 3 4 5; do
    "$@"
    status=$?
    if [ $status -le 128 ] || [ $status = 130 ] || [ $status = 143 ]; then
        exit $status
    fi
    echo "The driver was cut off by signal $((status - 128)); it is started again ($again of 5) and goes on."
    sleep 5
done
"$@"
