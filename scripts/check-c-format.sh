#!/usr/bin/env bash
# Checks the layout of the C files against .clang-format. Says so and passes where clang-format is not installed: the
# package is large and the layout is no matter of correctness.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v clang-format >/dev/null || { echo "check-c-format: clang-format is not installed, layout of C files not checked"; exit 0; }
mapfile -t files < <(find native test/kmod test/workloads test/zdtm -name '*.[ch]' 2>/dev/null)
[ ${#files[@]} -eq 0 ] || clang-format --dry-run -Werror "${files[@]}"
