#!/bin/sh
# Measures a device on a machine without network. Keras, and what else the machine lacks, comes from a folder of wheels:
#
#     python3 -m pip download -d WHEELS keras==3.15.1      # elsewhere, with the Python and the kind of the machine
#     sh benchmarks/on_device.sh WHEELS OUTPUT [arguments of on_device.py]
#
# What the machine has stays as it is: no wheel replaces it, least of all its jax and torch; an older Keras alone is
# covered. The wheels are unpacked to a temporary folder, for this run. PYTHON chooses another Python than python3.
set -eu

if [ $# -lt 2 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 2
fi
wheels=$1 output=$2
shift 2
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$output"
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT

missing=$("$python" "$here/device/wheels.py" "$wheels")
install() {
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
        --find-links "$wheels" --upgrade --target "$site" "$@"
}
echo "from the wheels:" ${missing:-nothing}
if [ -n "$missing" ] && ! install $missing; then
    for name in $missing; do # one that doesn't fit this Python must not keep out the others
        install "$name" || echo "left out: $name"
    done
fi
PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}" "$python" "$here/on_device.py" "$output" "$@"
