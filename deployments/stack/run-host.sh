#!/usr/bin/env bash
# A host's worker and agent in a container: up, looked at twice a minute and brought up again where one ended, down on SIGTERM.
# Guests belong to the machine's libvirt and live on.
set -euo pipefail

[ -n "${IMS_HOST:-}" ] || unset IMS_HOST # the machine's name
stop() {
    ims down
    exit 0
}
trap stop TERM INT

until ims up; do
    sleep 5 & wait $!
done
while true; do
    sleep 30 & wait $!
    ims status --json >/dev/null || ims up || true
done
