#!/bin/sh
# Buys something every two seconds.
trap 'exit 0' TERM
while true; do
    for good in apples pears; do
        python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode(), end="")' \
            "http://shop/$good"
        sleep 2 &
        wait $!
    done
done
