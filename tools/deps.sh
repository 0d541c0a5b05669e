#!/bin/sh
# Install the Debian packages that building and testing need and this machine lacks.
#
# usage: tools/deps.sh [build|test|all]      (default all)
#
# Does nothing, quickly, when all is there; only otherwise does it ask for root.  Services that come with a package
# (SERVICES) are neither started nor enabled.  Exit status 1 if something needed for building is missing in the end;
# test programs that are missing only give a warning: their tests then say SKIP.
set -u

# The one list.
BUILD='libbsd-dev libmd-dev libcmocka-dev libncurses-dev'
TEST='iproute2 nftables redis-server redis-tools nginx-light curl memcached libmemcached-tools mosquitto
	mosquitto-clients netcat-openbsd openssl python3 perl socat postgresql openssh-server openssh-client
	openssh-sftp-server haproxy apache2-bin rsync vsftpd openbsd-inetd ucspi-tcp procps strace mandoc zsh tmux
	python3-prometheus-client libjemalloc2 libtcmalloc-minimal4 libmimalloc2.0 libkeepalive0 libeatmydata1 torsocks
	proxychains4 libfaketime wrk valgrind binutils conntrack'
# PACKAGE/SERVICE where their names differ.
SERVICES='redis-server nginx memcached mosquitto postgresql openssh-server/ssh openssh-server/ssh.socket haproxy rsync
	vsftpd openbsd-inetd openbsd-inetd/inetd'

case ${1:-all} in
build) want=$BUILD ;;
test) want=$TEST ;;
all) want="$BUILD $TEST" ;;
*)
	echo "deps: \"$1\": expected build, test or all" >&2
	exit 2
	;;
esac

# missing PACKAGE...: those of them that are not installed.  One dpkg-query for all: this runs before each test.
missing() {
	# shellcheck disable=SC2016 # dpkg-query's own ${}
	have=" $(dpkg-query -W -f='${db:Status-Abbrev}${Package} ' "$@" 2>/dev/null) "
	for package in "$@"; do
		case $have in
		*" ii $package "* | *" hi $package "*) ;;
		*) printf '%s ' "$package" ;;
		esac
	done
}

# verdict: name what is still missing; the exit status says whether building can go on.
verdict() {
	for package in $(missing $want); do
		case " $BUILD " in
		*" $package "*) lack_build="${lack_build:-} $package" ;;
		*) lack_test="${lack_test:-} $package" ;;
		esac
	done
	[ -z "${lack_test:-}" ] || echo "deps: missing for tests:$lack_test: their tests will be SKIPPED" >&2
	[ -z "${lack_build:-}" ] && exit 0
	echo "deps: missing for building:$lack_build" >&2
	exit 1
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	# Another distribution: its names are unknown to us, so look for the things themselves.
	echo "deps: not a Debian machine: install what these Debian packages hold: $want" | tr -s ' \t\n' ' ' >&2
	echo >&2
	case ${1:-all} in test) exit 0 ;; esac
	for header in bsd/stdlib.h cmocka.h curses.h; do
		printf '#include <stdarg.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <setjmp.h>\n#include <%s>\n' \
			$header | ${CC:-cc} -E - >/dev/null 2>&1 && continue
		echo "deps: missing for building: <$header>" >&2
		exit 1
	done
	exit 0
fi

lack=$(missing $want)
[ -n "$lack" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
	as_root=
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
	as_root=sudo # may ask for the password on the terminal
else
	echo "deps: not root and no sudo; as root: apt-get install --no-install-recommends $lack" >&2
	verdict
fi

echo "deps: installing: $lack"
# invoke-rc.d(8): status 101 of policy-rc.d forbids every action, so that no package starts its service.
policy=/usr/sbin/policy-rc.d
made=
cleanup() {
	[ -z "$made" ] || $as_root rm -f "$policy"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e "$policy" ] && [ ! -L "$policy" ]; then
	made=yes
	printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod 755 "$policy" || {
		echo "deps: cannot write $policy" >&2
		verdict
	}
fi

apt() {
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 \
		-o APT::Install-Recommends=false -o Dpkg::Use-Pty=0 "$@" </dev/null
}
apt update || echo "deps: apt-get update failed; trying with the lists there are" >&2
if ! apt install $lack; then
	# One name unknown to this release fails the whole line: take the others.
	for package in $lack; do
		apt install "$package" || echo "deps: cannot install $package" >&2
	done
fi
for service in $SERVICES; do
	case " $lack" in
	*" ${service%/*}"*) command -v systemctl >/dev/null && $as_root systemctl -q disable "${service#*/}" 2>/dev/null ;;
	esac
done
verdict
