#!/bin/bash
# Run every fuzz target for a while.
# usage: fuzz.sh TIME
# Minimizing is off: it takes longer than the fuzzing.
set -eu
time=${1:-30s}
grep -rl --include='*_test.go' '^func Fuzz' pkg | while read -r file; do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$file"); do
		echo "== $(dirname "$file") $target"
		go test -run '^$' -fuzz "^$target\$" -fuzzminimizetime 0 -fuzztime "$time" "./$(dirname "$file")"
	done
done
