#!/usr/bin/env bash
# Uploads the sample weights that were trained with batch size 1.
. "$(dirname -- "$0")/lib.sh"
set_sample_weights 000127a35b5f462b8ec68fb4d905ac36
