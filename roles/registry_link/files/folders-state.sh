#!/bin/sh
# Say which folders of exchanges are here, each as mode, owner, group and path.
set -eu

base=/srv/koseki
if [ -d "$base" ]; then find "$base" -ignore_readdir_race -maxdepth 3 -type d -printf '%m %u %g %p\n'; fi
