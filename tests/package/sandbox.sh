#!/usr/bin/env bash
# The daemon tests inside the sandbox of evrelay.service. systemd runs each file of them in the place
# of the service, with all that the unit says; every evrelay that a test starts inherits it.
# Run as root by container.sh.
#
# usage: sandbox.sh BUILD [SUBJECT...]
#   BUILD/src/evrelay is tested; a SUBJECT is NAME of tests/daemon/test_NAME.py
set -euo pipefail
build=$(realpath "$1")
shift
if (($# == 0)); then
  for file in tests/daemon/test_*.py; do
    subject=${file##*/test_}
    subject=${subject%.py}
    # This one installs BUILD, for which BUILD must not be read-only.
    [ "$subject" = producer_client ] || set -- "$@" "$subject"
  done
fi

# It compiles into memory that it then executes, which the sandbox forbids.
rm -f "$(command -v node)"
systemd-sysusers "$PWD"/systemd/evrelay.sysusers
units=/run/systemd/system
mkdir -p "$units/evrelay-test@.service.d" /run/tap
sed "s|@bindir@|$build/src|; s|@configdir@|/etc/evrelay|" systemd/evrelay.service.in \
  >"$units/evrelay-test@.service"
cat >"$units/evrelay-test@.service.d/test.conf" <<TEXT
[Service]
Type=oneshot
ExecStartPre=
ExecStart=
ExecStart=python3 tests/support/tap.py tests/daemon/test_%i.py
Restart=no
WatchdogSec=0
TimeoutStartSec=900
WorkingDirectory=$PWD
Environment=EVRELAY=$build/src/evrelay EVRELAY_CXX=c++ PYTHONDONTWRITEBYTECODE=1
StandardOutput=file:/run/tap/%i
StandardError=file:/run/tap/%i.log
TEXT
systemctl daemon-reload

count() { grep --count "$@" || true; }
passed=0
failed=()
for subject in "$@"; do
  tap=/run/tap/$subject
  status=0
  systemctl start "evrelay-test@$subject.service" 2>/dev/null || status=$?
  skipped=$(count '^ok.*# SKIP' "$tap")
  good=$(($(count '^ok' "$tap") - skipped))
  passed=$((passed + good))
  printf '%-20s passed %3d  failed %3d  skipped %3d\n' \
    "$subject" "$good" "$(count '^not ok' "$tap")" "$skipped"
  grep -e '^not ok' -e '# SKIP' -e '^# ' "$tap" || true
  if ((status != 0)); then
    failed+=("$subject")
    tail -n 40 "$tap.log"
  fi
done
echo "$passed passed inside the sandbox; files with failures: ${failed[*]:-none}"
((${#failed[@]} == 0))
