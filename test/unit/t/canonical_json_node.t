#!/bin/sh
# Our canonical JSON against the JavaScript one: what a client would compute.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
build=${UNIT_BUILD:-build}
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
	echo "1..0 # SKIP node is not installed"
	exit 0
fi
[ "$build" != build ] || make -s -C "$here" build/jcs >&2
packages=$here/build/node
if [ ! -d "$packages/node_modules/canonicalize" ]; then
	mkdir -p "$packages"
	if ! timeout 90 npm install --silent --no-save --no-package-lock --prefix "$packages" canonicalize@4.0.0 >&2; then
		echo "1..0 # SKIP npm cannot install canonicalize"
		exit 0
	fi
fi
exec node "$here/canonicalize.mjs" "$here/$build/jcs" "$packages/node_modules/canonicalize"
