#!/bin/bash
# Where packages are missing and may not be installed, the script names the exact command and fails; where all are
# there it does nothing. Exit code 77: skipped.
set -euo pipefail
script=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cp "$script" "$folder/script"
fake() {
    printf '#!/bin/sh\n%s\n' "$2" >"$folder/$1"
    chmod 755 "$folder/$1"
}
fail() {
    echo "FAILED: $1" >&2
    exit 1
}
fake apt-get "echo touched >>'$folder/log'"
fake sudo 'exit 1'

as_user=()
if [ "$(id -u)" -eq 0 ]; then
    command -v setpriv >/dev/null || { echo "SKIPPED: no setpriv to become another user with"; exit 77; }
    as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
fi
run() { "${as_user[@]}" env PATH="$folder:$PATH" bash "$folder/script"; }

fake dpkg-query 'echo "deinstall cmake"; echo "installed g++"; exit 1'
if run 2>"$folder/message"; then fail "missing packages are no error"; fi
grep -q 'sudo apt-get update && sudo apt-get install .* cmake .*libhdf5-dev' "$folder/message" ||
    fail "no command is named in: $(cat "$folder/message")"
if grep -qF ' g++ ' "$folder/message"; then fail "an installed package is asked for"; fi

bash "$folder/script" --list | sed 's/^/installed /' >"$folder/all"
fake dpkg-query "cat '$folder/all'"
chmod 644 "$folder/all"
run || fail "nothing is missing, and yet it failed"
[ ! -e "$folder/log" ] || fail "apt-get was called"
echo PASSED
