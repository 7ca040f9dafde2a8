#!/usr/bin/env bash
# Sends three numbers where the sample network takes two: an answer with a stack trace, in base64.
. "$(dirname -- "$0")/lib.sh"
predict 0.1,0.2,0.3
