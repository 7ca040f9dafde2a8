#!/usr/bin/env bash
# Uploads the sample weights that were trained with batch size 2.
. "$(dirname -- "$0")/lib.sh"
set_sample_weights 0d3c5dffa4374c77a554ed38c9c50296
