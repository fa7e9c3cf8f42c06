#!/usr/bin/env bash
# Looks for a new greeting every second. Start `dsmq` first, this next, then put.sh:
# a client gets what is put after it connected.
# Needs bash and sed and nothing else: /dev/tcp is bash's own.
#
#   examples/get.sh [--host HOST] [--port PORT] [--count N] [--interval SECONDS]
set -euo pipefail

host=127.0.0.1 port=30008 count=1000 interval=1
while (($# > 1)); do
    case $1 in
        --host) host=$2 ;;
        --port) port=$2 ;;
        --count) count=$2 ;;
        --interval) interval=$2 ;;
    esac
    shift 2
done

# A reply is a JSON object with nothing behind it: it ends where, strings left aside, as many
# braces have been closed as opened.
receive() {
    reply=
    while IFS= read -r -d '}' piece <&3; do
        reply+=$piece}
        bare=$(sed -E 's/"([^"\\]|\\.)*"//g' <<<"$reply")
        opened=${bare//[^\{]/} closed=${bare//[^\}]/}
        if [[ $bare != *'"'* && ${#opened} == "${#closed}" ]]; then
            return
        fi
    done
    echo "the server closed the connection" >&2
    exit 1
}

exec 3<>"/dev/tcp/$host/$port"
for ((i = 0; i < count; i++)); do
    printf '{"action": "get", "topic": "greetings"}' >&3
    receive
    echo "client received $reply"
    sleep "$interval"
done
