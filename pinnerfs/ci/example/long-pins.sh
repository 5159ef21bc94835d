#!/bin/sh
# Counts the records of long pins in CMA, in a dump or in the debugfs.
set -e
echo "long pins in CMA: $(grep -c 'type CMA' "${1:-/sys/kernel/debug/page_pinner/longterm_pinner}")"
