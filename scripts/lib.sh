# shellcheck shell=bash
# What the curl scripts share: where the gateway is, who asks it (PIPELINE_TOKEN, where it wants to know), and how its answers are shown. To be sourced.
#
# The answer goes to stdout, with a newline. Exit status: 0 for an answer below HTTP 400; 22 (curl's own for it)
# for one that says it failed, body printed all the same; any other is curl's, with a sentence on stderr.

set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
url=${PIPELINE_URL:-http://127.0.0.1:54321}
url=${url%/}

# request PATH [CURL OPTION]...
request() {
    local path=$1 reply status code=0
    shift
    command -v curl >/dev/null || {
        echo "curl is needed and not installed: apt install curl" >&2
        return 127
    }
    # The token comes as a file: whoever lists processes would read it.
    # no --fail-with-body: Debian 11 and Ubuntu 20.04 have a curl from before it. A proxy never sees this machine.
    reply=$(curl -sS --connect-timeout 5 --max-time 120 --noproxy "127.0.0.1,localhost,${no_proxy:-}" \
        -w '\n%{http_code}' -H @<(printf %s "${PIPELINE_TOKEN:+Authorization: Bearer $PIPELINE_TOKEN}") \
        "$@" "$url$path") || code=$?
    status=${reply##*$'\n'}
    [ -z "${reply%$'\n'*}" ] || printf '%s\n' "${reply%$'\n'*}"
    if [ "$code" -ne 0 ]; then
        echo "No answer from $url. Start a gateway (python gw.py --workers 2)," \
            "or say where one is: PIPELINE_URL=http://HOST:PORT" >&2
        return "$code"
    fi
    [ "$status" -lt 400 ] || return 22
}

# predict NUMBER[,NUMBER]...
predict() {
    request /predict -X POST -H 'Content-Type: application/json' --data-raw "{\"vector\":[$1]}"
}

# set_weights NN_ID FILE, a file of data/; from inside, because a path may hold what -F gives a meaning to
set_weights() {
    cd -- "$root/data"
    request /set_weights -X PUT -F "nn_id=$1" -F "data=@$2;type=application/octet-stream"
}

# set_sample_weights NN_ID
set_sample_weights() {
    local files=("$root/data/$1"_*.b64)
    set_weights "$1" "${files[0]##*/}"
}
