#!/usr/bin/env bash
# Asks the gateway how it and its workers are.
. "$(dirname -- "$0")/lib.sh"
request /status
