#!/usr/bin/env bash
# Uploads the sample weights that were trained with batch size 5.
. "$(dirname -- "$0")/lib.sh"
set_sample_weights dfd2cd54a1ec4a408285f547f6827ea2
