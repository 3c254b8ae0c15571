#!/usr/bin/env bash
# Makes a Python 3.10 environment with BORG and NumPy, in build/borg or the folder given.
#
# BORG's binary wheels exist for CPython 3.8 to 3.10 on x86_64 Linux; this package needs 3.11 or
# newer. The two meet over a socket, so BORG gets an environment of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-build/borg}

is_suitable() {
    "$@" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 10))' > /dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in "${BORG_BASE_PYTHON:-python3.10}" "${HOME}"/.pyenv/versions/3.10.*/bin/python; do
        if is_suitable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python 3.10 found; name one in BORG_BASE_PYTHON" >&2
    exit 1
}

python=$(find_python)
"$python" -m venv "$folder"
"$folder/bin/pip" install --quiet --only-binary aquila_borg aquila_borg==2.1.2 numpy
echo "$folder/bin/python"
