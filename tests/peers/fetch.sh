#!/bin/sh
# Fetches what these tests hold Postroom against: a mail parser of another language (npm), and mail servers as Debian
# packages (apt-get), unpacked under .peers/ with what they need and this machine lacks, one folder a server, since the
# packages exclude each other. Nothing is installed, no service starts, and root is not needed.
set -eu
cd "$(dirname "$0")/../.."
export LC_ALL=C

fetch() { # folder, packages
    folder=.peers/$1
    shift
    if [ -e "$folder/.complete" ]; then return; fi
    rm -rf "$folder"
    mkdir -p "$folder/.packages" "$folder/usr/bin" "$folder/usr/sbin" "$folder/usr/lib"
    for name in bin sbin lib; do ln -s "usr/$name" "$folder/$name"; done # as in /, which the folder is laid over
    missing=$(apt-get --simulate --no-install-recommends install "$@" | awk '$1 == "Inst" { print $2 }')
    needed=$(printf '%s\n' "$@" $missing | sort -u)
    (cd "$folder/.packages" && apt-get --quiet=2 --option APT::Sandbox::User=root download $needed)
    for package in "$folder"/.packages/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar --extract --keep-directory-symlink --directory "$folder"
    done
    rm -r "$folder/.packages"
    touch "$folder/.complete"
}

if command -v npm > /dev/null; then
    (cd tests/peers && npm ci --no-audit --no-fund --silent)
else
    echo "npm not found: the tests with another language's mail parser will be skipped"
fi
if ! command -v apt-get > /dev/null; then
    echo "apt-get not found: the tests with Postfix, Exim and OpenSMTPD will be skipped"
elif ! apt-cache show postfix > /dev/null 2>&1; then
    echo "apt-get knows no packages: run 'apt-get update' first, or the tests with mail servers will be skipped"
else
    fetch postfix postfix sasl2-bin libsasl2-modules
    fetch exim exim4-daemon-light
    fetch opensmtpd opensmtpd
fi
