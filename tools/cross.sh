#!/bin/sh
# What a build for another Debian architecture needs beside the cross compiler: libraries, unpacked into a directory.
# No foreign architecture is added to this system and no root is needed.
#
# usage: tools/cross.sh ARCH DIRECTORY       (arm64, build/cross)
#
# Makes DIRECTORY/sysroot.  Exit status 77, with a line that says why, if something is missing.
set -eu
arch=$1 directory=$2
packages='libbsd-dev libbsd0 libmd-dev libmd0 libcmocka-dev libcmocka0 libncurses-dev
	libncurses6 libncursesw6 libtinfo6'
[ ! -e "$directory/sysroot/complete" ] || exit 0

missing() {
	echo "cross: $1" >&2
	exit 77
}
command -v apt-get >/dev/null || missing "not a Debian machine"
rm -rf "$directory"
mkdir -p "$directory/state/lists/partial" "$directory/cache/archives/partial" "$directory/sysroot"
directory=$(cd "$directory" && pwd)
: >"$directory/status"
private() {
	apt-get -qq -o Dir::State="$directory/state" -o Dir::State::status="$directory/status" -o Dir::Cache="$directory/cache" \
		-o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User=root "$@"
}
private update || missing "apt-get update failed for $arch"
# shellcheck disable=SC2086 # a list
(cd "$directory/cache" && private download $packages >/dev/null) || missing "cannot download $packages for $arch"
for package in "$directory"/cache/*.deb; do
	dpkg-deb -x "$package" "$directory/sysroot"
done
: >"$directory/sysroot/complete"
