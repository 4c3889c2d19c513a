#!/usr/bin/env bash
# Runs a command as the one service of a systemd of its own, above the files of this machine, without
# its network. What the command changes is gone when it ends. Shows what it says and ends with its exit
# status.
#
# usage, as root: container.sh COMMAND [ARG...]
#
# The command sees this source tree as /srv/evrelay, read-only, and runs there.
# EVRELAY_ROOT: a folder with another Debian than this machine's, for instance one of mmdebstrap.
set -euo pipefail
tree=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)

scratch=$(mktemp -d)
nspawn=
# shellcheck disable=SC2317  # called at the exit
end() {
  [ -z "$nspawn" ] || kill "$nspawn" 2>/dev/null || true
  [ -z "$nspawn" ] || wait "$nspawn" || true
  # Not -r: root is where all files of the machine are bound, if only in the container's eyes.
  rm -f "$scratch"/{output,console,check.service}
  rmdir "$scratch/root" "$scratch"
}
trap end EXIT
mkdir "$scratch/root"
output=$scratch/output
touch "$output"
cat >"$scratch/check.service" <<TEXT
[Unit]
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
WorkingDirectory=/srv/evrelay
ExecStart=$*
StandardOutput=append:/srv/output
StandardError=inherit
TimeoutStartSec=3600
TEXT

# Where systemd does not run there is no unit that the container could be registered with.
options=(--quiet --register=no --link-journal=no --console=pipe --private-network --volatile=overlay
  --machine="evrelay-check-$$")
[ -d /run/systemd/system ] || options+=(--keep-unit)
# nspawn takes no overlay of / by that name.
# shellcheck disable=SC2016
unshare --mount sh -c 'mount --bind "$1" "$2" && shift && exec systemd-nspawn --directory="$@"' sh \
  "${EVRELAY_ROOT:-/}" "$scratch/root" "${options[@]}" \
  --bind-ro="$tree:/srv/evrelay" --bind="$output:/srv/output" \
  --bind-ro="$scratch/check.service:/etc/systemd/system/evrelay-check.service" \
  --boot -- --unit=evrelay-check.service --show-status=no \
  </dev/null >"$scratch/console" 2>&1 &
nspawn=$!
tail --pid="$nspawn" --lines=+1 --follow "$output"
status=0
wait "$nspawn" || status=$?
nspawn=
[ -s "$output" ] || cat "$scratch/console"
exit "$status"
