#!/bin/sh
# The test suites of others, as Debian ships them, unpacked into a directory; nothing is installed and no root is needed.
#
# usage: tests/suites/get.sh DIRECTORY python|SOURCE
#
# "python" is the python3 of this release with its test suite, in DIRECTORY/python; SOURCE a Debian source package, in
# DIRECTORY/SOURCE.  Exit status 77, with a line that says why, if they are not to be had.
set -eu
mkdir -p "$1"
directory=$(cd "$1" && pwd) name=$2

missing() {
	echo "$name: $1" >&2
	exit 77
}
[ ! -e "$directory/$name/complete" ] || exit 0
command -v apt-get >/dev/null || missing "not a Debian machine"
rm -rf "${directory:?}/$name"
mkdir -p "$directory/$name/archive"
cd "$directory/$name/archive"

python() {
	version=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])') || missing "no /usr/bin/python3"
	packages="python$version-minimal libpython$version-minimal libpython$version-stdlib libpython$version-testsuite"
	# shellcheck disable=SC2086 # a list
	apt-get -qq -o APT::Sandbox::User=root download $packages >&2 || missing "cannot download $packages"
	for package in *.deb; do
		dpkg-deb -x "$package" ..
	done
	ln -s "python$version" ../usr/bin/python
}

# Sources are not in the lists of most machines: lists of our own, from the same places.
unpacked_source() {
	command -v dpkg-source >/dev/null || missing "no dpkg-source (Debian: apt-get install dpkg-dev)"
	mkdir -p lists/partial cache/archives/partial
	apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Label: Debian' |
		sort -u >sources.list
	[ -s sources.list ] || missing "no Debian archive in the lists of apt-get"
	private() {
		apt-get -qq -o Dir::Etc::sourcelist="$PWD/sources.list" -o Dir::Etc::sourceparts=- \
			-o Dir::State::lists="$PWD/lists" -o Dir::Cache="$PWD/cache" -o APT::Sandbox::User=root "$@" >&2
	}
	private update || missing "apt-get update failed for sources"
	private source --download-only "$name" || missing "cannot download the source of $name"
	dpkg-source -x ./*.dsc ../source >&2 || missing "cannot unpack the source of $name"
}

case $name in
python) python ;;
*) unpacked_source ;;
esac
rm -rf "$directory/$name/archive"
: >"$directory/$name/complete"
