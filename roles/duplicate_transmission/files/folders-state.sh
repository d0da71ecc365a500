#!/bin/sh
# Say which folders of duplicates are here, each as mode, owner, group and path.
set -eu

base=/srv/koseki/duplicates
if [ -d "$base" ]; then find "$base" -ignore_readdir_race -maxdepth 1 -type d -printf '%m %u %g %p\n'; fi
