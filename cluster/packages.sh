#!/usr/bin/env bash
# packages.sh NAME...: install Debian or Ubuntu packages.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
as_root=$([ "$(id -u)" = 0 ] || echo "sudo -n -E")
if ! command -v apt-get > /dev/null || ! $as_root true 2> /dev/null; then
    echo "Error: these packages are missing and cannot be installed automatically (no apt-get, or no sudo): $*" >&2
    exit 1
fi
$as_root apt-get -o DPkg::Lock::Timeout=600 -q update
$as_root apt-get -o DPkg::Lock::Timeout=600 -q install -y --no-install-recommends "$@"
