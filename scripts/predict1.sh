#!/usr/bin/env bash
# Asks the served network for 0.1 + 0.2.
. "$(dirname -- "$0")/lib.sh"
predict 0.1,0.2
