#!/bin/sh
# Installs the default configuration to FOLDER, with the script beside it as its script. A file that
# is there stays: it may have been edited.
# usage: install.sh YAML LUA FOLDER, called by `meson install`
set -eu
folder=$3
mkdir -p "${DESTDIR-}$folder"
for source in "$1" "$2"; do
  target=${DESTDIR-}$folder/${source##*/}
  if [ -e "$target" ]; then
    echo "keeping $target"
    continue
  fi
  install -m 644 "$source" "$target"
  sed -i "s|^script:\$|# (The default is none.)\nscript: $folder/hook.lua|" "$target"
done
