#!/bin/sh
# Make the Debian package from what "make install" put into a directory; called by "make deb".
#
# usage: tools/deb.sh STAGE VERSION OUTPUT
#
# Needs dpkg-deb, readelf, strip and gzip only.  The same sources give the same bits: all times are SOURCE_DATE_EPOCH,
# by default that of tools/debian/changelog, all owners root, all names sorted.
set -eu
stage=$1 version=$2 output=$3
here=$(dirname "$0")/debian
umask 022
export LC_ALL=C TZ=UTC

head=$(head -n 1 "$here/changelog")
[ "$head" = "holdfast ($version) unstable; urgency=medium" ] || {
	echo "deb: tools/debian/changelog begins with \"$head\": expected version $version" >&2
	exit 1
}
maintainer=$(sed -n 's/^ -- \(.*>\)  .*/\1/p;/^ -- /q' "$here/changelog")
[ -n "${SOURCE_DATE_EPOCH:-}" ] ||
	SOURCE_DATE_EPOCH=$(date -d "$(sed -n 's/^ -- .*>  //p' "$here/changelog" | head -n 1)" +%s)
export SOURCE_DATE_EPOCH
arch=$(dpkg --print-architecture)

# What programs are told on a Debian system: compressed manuals, the licence as "copyright", the changelog.
doc=$stage/usr/share/doc/holdfast
find "$stage/usr/share/man" -type f ! -name '*.gz' -exec gzip -9n {} +
{
	echo 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/'
	echo 'Upstream-Name: holdfast'
	echo 'Comment: parts of libbsd and libmd, under BSD licences, are linked in; their'
	echo ' texts are in /usr/share/doc/libbsd0/copyright and /usr/share/doc/libmd0/copyright.'
	echo
	echo 'Files: *'
	sed -n 's/^Copyright (c) /Copyright: /p' "$doc/LICENSE"
	echo 'License: Expat'
	sed -e '1,/^Copyright/d' "$doc/LICENSE" | sed -e '/./,$!d' -e 's/^$/./' -e 's/^/ /'
} >"$doc/copyright"
rm "$doc/LICENSE"
gzip -9nc "$here/changelog" >"$doc/changelog.gz"
find "$stage" -name '*.so' -exec strip --strip-unneeded --remove-section=.comment {} +
strip --remove-section=.comment "$stage/usr/bin/holdfast"

# The newest version of glibc whose symbols are used: what the package needs at least.
glibc=$(find "$stage" \( -name '*.so' -o -path '*/bin/*' \) -type f -exec readelf -VW {} + |
	grep -o 'GLIBC_2\.[0-9.]*' | sort -uV | tail -n 1 | cut -d_ -f2)

find "$stage" -type d -exec chmod 755 {} +
find "$stage" -type f -exec chmod 644 {} +
chmod 755 "$stage/usr/bin/holdfast"
mkdir -p "$stage/DEBIAN"
(cd "$stage" && find usr -type f | sort | xargs md5sum) >"$stage/DEBIAN/md5sums"
sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@MAINTAINER@/$maintainer/; s/@DEPENDS@/libc6 (>= $glibc), libncursesw6 (>= 6), libtinfo6 (>= 6)/" \
	-e "s/@SIZE@/$(find "$stage/usr" -type f -printf '%s\n' | awk '{n += int(($1 + 1023) / 1024)} END {print n}')/" \
	"$here/control.in" >"$stage/DEBIAN/control"
chmod 644 "$stage/DEBIAN"/*
find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zxz --build "$stage" "$output"
