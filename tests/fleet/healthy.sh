#!/bin/sh
# The guest of a simulated host: well, unless the host is ill since it runs another generation than before. healthy.sh DIRECTORY
# It leaves marks: that it was asked, and that it was not well.
: >"$1/files/tried"
[ ! -e "$1/files/ill" ] || [ "$(cat "$1/files/well_with" 2>/dev/null)" = "$FLYD_DEVICE" ] ||
    { : >"$1/files/hurt" && echo "connection refused" && exit 1; }
echo "$FLYD_DEVICE" >"$1/files/well_with"
