#!/usr/bin/env bash
# Makes a Debian 12 machine ready: Debian packages, the Python environment, the sample guest's packages.
# Each part is looked at first, so that a second run only looks. Called by `make setup`; starts no service.
# With --service it leaves out what only tests, benchmarks and the demo need: for a host of the production stack.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
extras=dev,redis
[ "${1:-}" != --service ] || extras=redis
cd "$root"

say() { printf 'setup: %s\n' "$*" >&2; }

missing_packages() {
    local wanted
    wanted=$(sed 's/#.*//' deployments/debian-packages.txt | awk -v extras="$extras" 'NF && (extras ~ /dev/ || $2 != "(tests)") { print $1 }')
    # shellcheck disable=SC2086  # one word a package
    comm -23 <(sort <<<"$wanted") \
        <(dpkg-query --show --showformat '${Package} ${db:Status-Status}\n' $wanted 2>/dev/null | awk '$2 == "installed" { print $1 }' | sort)
}

install_packages() {
    local missing prefix=()
    missing=$(missing_packages | tr '\n' ' ')
    [ -n "${missing// /}" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null || ! { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
            say "these Debian packages are missing; run this as root, then \`make setup\` again:"
            printf 'apt-get update && apt-get install --yes --no-install-recommends %s\n' "$missing"
            exit 1
        fi
        prefix=(sudo)
    fi
    say "installing Debian packages: $missing"
    "${prefix[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update --quiet
    # shellcheck disable=SC2086
    "${prefix[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends $missing
}

make_environment() {
    local stamp=$venv/.ims-stamp wanted
    wanted=$(cat pyproject.toml constraints.txt deployments/setup.sh <(/usr/bin/python3 --version) <(echo "$extras") | sha256sum)
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    say "making the Python environment in $venv"
    /usr/bin/python3 -m venv --system-site-packages "$venv"
    "$venv/bin/pip" install --quiet --constraint constraints.txt pip setuptools wheel
    # Debian's own packages are visible for the bindings of libvirt, libnbd and libguestfs; everything pinned is installed
    # here as well, so that none of it is taken from there.
    "$venv/bin/pip" install --quiet --no-build-isolation --constraint constraints.txt --editable ".[$extras]"
    printf '%s\n' "$wanted" >"$stamp"
}

fetch_sample_guest() {
    local home=${IMS_HOME:-}
    if [ -z "$home" ]; then
        home=/var/lib/ims
        [ "$(id -u)" -eq 0 ] || home=${XDG_DATA_HOME:-$HOME/.local/share}/ims
    fi
    local stamp=$home/packages/.ims-stamp wanted
    wanted=$(sha256sum <deployments/sample_guest/packages.txt)
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    say "fetching the sample guest's packages into $home/packages"
    "$venv/bin/python" -m deployments.sample_guest --fetch --packages "$home/packages" >&2
    printf '%s\n' "$wanted" >"$stamp"
}

install_packages
make_environment
[ "$extras" = redis ] || fetch_sample_guest
