#!/bin/sh
# Fetches what these tests hold Postroom against: a mail parser of another language (npm), and mail servers as Debian
# packages (apt-get), unpacked under .peers/ with what they need and this machine lacks, one folder a server, since the
# packages exclude each other. Nothing is installed, no service starts, and root is not needed.
set -eu
cd "$(dirname "$0")/../.."
export LC_ALL=C
as_fetched="$(cksum < tests/peers/fetch.sh)" # another version of this file fetches anew

is_fetched() { # folder
    [ "$(cat ".peers/$1/.complete" 2> /dev/null)" = "$as_fetched" ]
}

fetch() { # folder, packages
    if is_fetched "$1"; then return; fi
    folder=.peers/$1
    shift
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
    echo "$as_fetched" > "$folder/.complete"
}

# OpenSMTPD before 7 offers TLS and cannot do it with OpenSSL 3 (issue 1171 there). Where the release has an older one, as
# Debian 12 has, its backports are asked, with lists of their own: what apt-get does on this machine stays as it is.
look_for_opensmtpd() {
    if is_fetched opensmtpd || has_opensmtpd; then return; fi
    apt=$(mktemp -d)
    trap 'rm -r "$apt"' EXIT
    mkdir -p "$apt/sources" "$apt/lists/partial"
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
        awk '$3 == "main" && $2 !~ /-/ { print "deb", $1, $2, $3; print "deb", $1, $2 "-backports", $3 }' |
        sort -u > "$apt/sources/backports.list"
    cat > "$apt/apt.conf" << END
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$apt/sources";
Dir::State::Lists "$apt/lists";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Default-Release "/-backports$/";
END
    export APT_CONFIG="$apt/apt.conf"
    apt-get --quiet=2 --option APT::Sandbox::User=root update
    has_opensmtpd
}

has_opensmtpd() {
    version=$(apt-cache policy opensmtpd | awk '$1 == "Candidate:" { print $2 }')
    case $version in
        [0-9]*) dpkg --compare-versions "$version" ge 7 ;;
        *) false ;; # "(none)" compares as newer than any
    esac
}

if command -v npm > /dev/null; then
    (cd tests/peers && npm ci --prefer-offline --no-audit --no-fund --silent)
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
    if look_for_opensmtpd; then
        fetch opensmtpd opensmtpd
    else
        echo "no OpenSMTPD that can do TLS is offered for this system: the tests with it will be skipped"
    fi
fi
