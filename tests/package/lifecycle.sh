#!/usr/bin/env bash
# The life of the package on a machine that runs systemd: installed, used, upgraded, removed, purged.
# Run as root by container.sh, as it takes the machine for its own.
#
# usage: lifecycle.sh EVRELAY_DEB DEV_DEB
# shellcheck disable=SC2317  # functions are called through check
set -uo pipefail
package=$(realpath "$1")
headers=$(realpath "$2")
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
cd "$(mktemp -d)" || exit

failed=0
# check WHAT COMMAND...
check() {
  local what=$1
  shift
  if "$@"; then
    echo "ok: $what"
  else
    echo "FAILED: $what"
    failed=1
  fi
}

not() { ! "$@"; }
is() { [ "$1" = "$2" ] || { echo "# $1, not $2" && false; }; }
enabled() { systemctl --quiet is-enabled "$@" 2>/dev/null; }
active() { systemctl --quiet is-active "$@"; }
main_pid() { systemctl show --property=MainPID --value evrelay.service; }
in_status() { grep --quiet "^$1" "/proc/$(main_pid)/status"; }
has_field() { evrelay status --json | grep --quiet "$1"; }
unpacked() { dpkg-deb --fsys-tarfile "$1" | tar --list | sed -n 's|^\.\(/.*[^/]\)$|\1|p'; }

# All that the package could have left: everything below /etc and /usr, elsewhere what bears its name.
traces() {
  find /etc /usr ! -path '/etc/*-' ! -path '/usr/share/man/*cat*' ! -name 'ld.so.cache'
  find /lib/systemd /var /run -name '*evrelay*' ! -path '/run/credentials/*' ! -path '/run/systemd/*'
}

# until_true COMMAND...: waits for what is to come within half a minute.
until_true() {
  local end=$((SECONDS + 30))
  until "$@" 2>/dev/null; do
    ((SECONDS < end)) || return
    sleep 0.05
  done
}

# An event from a producer to a subscriber, both by the commands of the package.
event_comes_through() {
  evrelay sub --count 1 --raw >event &
  local subscriber=$!
  until_true has_field '"live": *1\b' && evrelay pub --ack "$1" && until_true not kill -0 "$subscriber"
  is "$(cat event)" "$1"
}

# Connects to the subscriber port again and again, until `connecting` is gone; refusals go to `refused`.
connect_on_and_on() {
  touch connecting
  : >refused
  while [ -e connecting ]; do
    (exec 3<>/dev/tcp/127.0.0.1/8448) 2>>refused
  done &
  connector=$!
}
nobody_was_refused() {
  rm connecting
  wait "$connector"
  is "$(cat refused)" ''
}

# newer VERSION: the same package once more, with other defaults. Prints its path.
newer() {
  dpkg-deb --raw-extract "$package" "newer-$1" &&
    sed -i "s/^Version: .*/Version: $1/" "newer-$1/DEBIAN/control" &&
    echo "# of $1" >>"newer-$1/etc/evrelay/evrelay.yaml" &&
    echo "-- of $1" >>"newer-$1/etc/evrelay/hook.lua" &&
    dpkg-deb --root-owner-group --build "newer-$1" "newer-$1.deb" >/dev/null &&
    realpath "newer-$1.deb"
}

# dpkg as unattended upgrades call it.
install() { dpkg --force-confdef --force-confold --install "$@" >dpkg.log 2>&1 || { cat dpkg.log && false; }; }
delete() { dpkg "$@" >dpkg.log 2>&1 || { cat dpkg.log && false; }; }

version=$(dpkg-deb --field "$package" Version)
# Images of Debian for containers have one, which starts no services.
rm -f /usr/sbin/policy-rc.d
traces >before

echo "== install $version"
check 'it installs' install "$package" "$headers"
check 'every file is there as packed' is "$(dpkg --verify evrelay libevrelay-dev)" ''
check 'the user is a system user without a shell' \
  grep --quiet --extended-regexp '^evrelay:x:[0-9]{1,3}:[0-9]{1,3}:Event relay:/:/usr/sbin/nologin$' /etc/passwd
user=$(grep ^evrelay: /etc/passwd)
check 'the configuration is good' is "$(evrelay --check -c /etc/evrelay/evrelay.yaml)" ok
check 'it names the script' grep --quiet '^script: /etc/evrelay/hook.lua$' /etc/evrelay/evrelay.yaml
check 'the service is enabled' enabled evrelay.service
check 'the service runs' active evrelay.service
if ((failed)); then
  journalctl --quiet --no-hostname --unit=evrelay
  exit 1
fi
check 'the sockets are not enabled' not enabled evrelay.socket
check 'the sockets are not enabled' not enabled evrelay-producer.socket
check 'the sockets are off' not active evrelay.socket evrelay-producer.socket
check 'an event comes through' event_comes_through hello
check 'the books balance' evrelay status --balance

echo "== the units"
check 'nothing is wrong with them' is "$(systemd-analyze verify --man=no --recursive-errors=no \
  /lib/systemd/system/evrelay{.service,.socket,-producer.socket} 2>&1)" ''
exposure=$(systemd-analyze --no-pager security --offline=true /lib/systemd/system/evrelay.service |
  sed -n 's/.*Overall exposure level.*: \([0-9]\.[0-9]\).*/\1/p')
check "the service is exposed to $exposure, at most to 1.5" test "${exposure/./}" -le 15

echo "== the sandbox"
check 'it is its own user' in_status "Uid:.$(id -u evrelay)"
check 'it has no capabilities and can get none' in_status 'CapBnd:.0*$'
check 'it gets no privileges' in_status 'NoNewPrivs:.1'
check 'its system calls are filtered' in_status 'Seccomp:.2'
check 'the system is read-only for it' grep --quiet ' / / ro[, ]' "/proc/$(main_pid)/mountinfo"
check 'its /tmp is its own' not test -e "/proc/$(main_pid)/root/tmp/${PWD#/tmp/}"
check 'homes are closed to it' is "$(stat --format=%a "/proc/$(main_pid)/root/root")" 0

echo "== reload"
pid=$(main_pid)
check 'systemctl reload' systemctl reload evrelay
check 'evrelay reload' evrelay reload
sed -i 's/^workers: 1/workers: many/' /etc/evrelay/evrelay.yaml
check 'a bad file fails the reload' not systemctl reload evrelay 2>/dev/null
check 'and says where' until_true sh -c 'journalctl --quiet --unit=evrelay | grep --quiet evrelay.yaml:[0-9]*:'
sed -i 's/^workers: many/workers: 1/' /etc/evrelay/evrelay.yaml
check 'it is still the same process' is "$(main_pid)" "$pid"

echo "== a crash"
kill -9 "$pid"
runs_again() { active evrelay.service && [ "$(main_pid)" != "$pid" ]; }
check 'it is started again' until_true runs_again
check 'an event comes through' event_comes_through again

echo "== upgrade, with a configuration of one's own"
sed -i 's/^max_clients: 1024/max_clients: 500/' /etc/evrelay/evrelay.yaml
check 'it upgrades' install "$(newer "$version+1")"
check 'the change is kept' grep --quiet '^max_clients: 500$' /etc/evrelay/evrelay.yaml
check 'the new default lies beside it' grep --quiet "^# of $version+1" /etc/evrelay/evrelay.yaml.dpkg-dist
check 'the script, not changed, is the new one' grep --quiet "^-- of $version+1" /etc/evrelay/hook.lua
check 'the service runs' active evrelay.service
check 'the service is enabled' enabled evrelay.service
check 'the sockets are not enabled' not enabled evrelay.socket
check 'an event comes through' event_comes_through upgraded

echo "== sockets that systemd holds"
systemctl stop evrelay
check 'they can be enabled' systemctl --quiet enable --now evrelay.socket evrelay-producer.socket
check 'the service starts upon them' systemctl start evrelay
check 'an event comes through' event_comes_through held
systemctl reset-failed evrelay
connect_on_and_on
check 'it restarts' systemctl restart evrelay
check 'and upgrades' install "$(newer "$version+2")"
check 'nobody was refused' nobody_was_refused
check 'an event comes through' event_comes_through restarted
systemctl stop evrelay 2>/dev/null
check 'a producer starts it' evrelay pub --ack first
check 'now it runs' active evrelay.service
check 'upgraded, with the sockets' enabled evrelay.socket evrelay-producer.socket

echo "== upgrade of a service that is switched off"
systemctl --quiet disable --now evrelay.socket evrelay-producer.socket evrelay.service
check 'it upgrades' install "$(newer "$version+3")"
check 'the service is off' not active evrelay.service
check 'it is not enabled' not enabled evrelay.service
systemctl --quiet enable --now evrelay.socket evrelay-producer.socket evrelay.service

echo "== remove, install again"
echo hello >/var/log/evrelay/old.log
check 'it is removed' delete --remove evrelay
check 'the service has ended' not active evrelay.service
check 'the sockets are closed' not active evrelay.socket
check 'the sockets are closed' not active evrelay-producer.socket
check 'the program is gone' not test -e /usr/bin/evrelay
check 'the configuration stays' grep --quiet '^max_clients: 500$' /etc/evrelay/evrelay.yaml
check 'logs stay' test -e /var/log/evrelay/old.log
check 'it installs again' install "$package"
check 'with the old configuration' grep --quiet '^max_clients: 500$' /etc/evrelay/evrelay.yaml
check 'the user is the same' is "$(grep ^evrelay: /etc/passwd)" "$user"
check 'the service runs' active evrelay.service
check 'an event comes through' event_comes_through back

echo "== purge"
check 'it is purged' delete --purge evrelay libevrelay-dev
traces >after
check 'nothing is left' diff before after
check 'nothing listens' not sh -c 'exec 3<>/dev/tcp/127.0.0.1/8448' 2>/dev/null
check 'the user stays' is "$(grep ^evrelay: /etc/passwd)" "$user"
check 'it installs once more' install "$package" "$headers"
check 'the service runs' active evrelay.service
check 'an event comes through' event_comes_through anew

echo "== files"
unpacked "$package"
unpacked "$headers"
((failed == 0)) || journalctl --quiet --no-hostname --unit='evrelay*' | tail -n 60
exit "$failed"
