#!/usr/bin/env bash
# catchup.sh - what it costs a node to return to stores of a thousand and of a million keys, having missed 10,000.
# Takes some minutes and 2 GB of disk below $TMPDIR. Figures are in the lines that begin with '#'.
set -eu
top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
export CATCHUP_STORES=${CATCHUP_STORES:-1000 1000000} CATCHUP_KEYS=${CATCHUP_KEYS:-10000} WATCHDOG_SECONDS=7200
exec bash "$top/tests/mount/test_catchup.sh"
