#!/bin/sh
# Builds the program that is packaged, and what it says of itself: completions and man pages, into target/packaging.
set -eu
cd "$(dirname "$0")/.."
# Without names of functions: they would be a sixth of it. A panic still says in which file and line.
cargo rustc --locked --profile dist -p minisvc --bin minisvc -- -C strip=symbols
program=target/dist/minisvc
out=target/packaging
rm -rf "$out"
mkdir -p "$out/man"
"$program" completions bash >"$out/minisvc.bash"
"$program" completions zsh >"$out/_minisvc"
"$program" completions fish >"$out/minisvc.fish"
"$program" man "$out/man"
