#!/usr/bin/env bash
# Asks the served network for 0.446 + 0.554.
. "$(dirname -- "$0")/lib.sh"
predict 0.446,0.554
