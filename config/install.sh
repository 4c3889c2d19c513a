#!/bin/sh
# Installs the default configuration to FOLDER, unless there is one: it may have been edited.
# usage: install.sh SOURCE FOLDER, called by `meson install`
set -eu
target=${DESTDIR-}$2/evrelay.yaml
if [ -e "$target" ]; then
  echo "keeping $target"
  exit
fi
mkdir -p "${target%/*}"
install -m 644 "$1" "$target"
