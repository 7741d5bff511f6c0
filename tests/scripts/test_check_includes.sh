#!/bin/bash
# check-includes finds each kind of offence that is planted, names it, and finds none where there is none.
set -euo pipefail
script=$1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

# expect_offence FILE INCLUDE-LINE TEXT: with that line in that file, the check fails with that text.
expect_offence() {
    mkdir -p "$tree/$(dirname "$1")"
    echo "$2" >"$tree/$1"
    local output
    if output=$("$script" "$tree"); then
        echo "FAILED: '$2' in $1 was let through" >&2
        exit 1
    fi
    grep -qF "$3" <<<"$output" || {
        echo "FAILED: '$2' in $1 gave: $output" >&2
        exit 1
    }
    rm "$tree/$1"
}

mkdir -p "$tree"/src/{base,comm,io,model,app} "$tree/kernels"
echo '#pragma once' >"$tree/src/base/error.h"
echo '#include "base/error.h"' >"$tree/src/io/file.h"
echo '#include <mpi.h>' >"$tree/src/comm/mpi.h"
echo '#include "comm/mpi.h"' >"$tree/src/comm/group.cpp"
echo '#include <boost/program_options.hpp>' >"$tree/src/app/main.cpp"
echo '#include "base/error.h"' >"$tree/kernels/linear.h"
"$script" "$tree"

expect_offence src/base/bad.h '#include "io/file.h"' 'src/base/bad.h:1: base includes "io/file.h"'
expect_offence src/io/bad.cpp '  #  include "kernels/linear.h"' 'io includes "kernels/linear.h"'
expect_offence kernels/bad.cpp '#include "comm/group.h"
#include "comm/mpi.h"' 'kernels includes "comm/mpi.h"'
expect_offence src/model/bad.cpp '#include <boost/program_options.hpp>' 'model sees boost'
expect_offence src/model/bad.cpp '#include <hdf5.h>' 'model sees hdf5'
expect_offence src/model/bad.cpp '#include "comm/mpi.h"' 'model sees mpi through <src/comm/mpi.h>'
expect_offence src/io/bad.h '#include "file.h"' 'write the path from src, as "io/file.h"'
expect_offence src/other/bad.h '#include "base/error.h"' "'other' is no layer"
echo PASSED
