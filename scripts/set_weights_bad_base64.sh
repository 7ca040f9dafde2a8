#!/usr/bin/env bash
# Uploads a file that is not base64: refused with HTTP 400, so this ends with status 22.
. "$(dirname -- "$0")/lib.sh"
request /set_weights -X PUT -F nn_id=ffffffffffffffffffffffffffffffff \
    -F 'data=this is not base64!;filename=bad_base64.b64;type=application/octet-stream'
