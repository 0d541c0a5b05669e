# shellcheck shell=bash
# Whether sockets can be destroyed here (ss -K); why not in $WHY.  Sourced.
may_destroy() {
	command -v ss >/dev/null || { WHY="no ss (iproute2)"; return 1; }
	command -v python3 >/dev/null || { WHY="no python3"; return 1; }
	[ "$(id -u)" -eq 0 ] || { WHY="sockets are destroyed by root only"; return 1; }
	WHY=$(python3 - <<-'END'
		import socket, subprocess
		listener = socket.create_server(("127.0.0.1", 0))
		client = socket.create_connection(listener.getsockname())
		subprocess.run(["ss", "-K", "dport", "=", ":%d" % listener.getsockname()[1]], capture_output=True)
		client.settimeout(1)
		try:
		    client.send(b"x")
		    print("ss -K destroys nothing (CONFIG_INET_DIAG_DESTROY)")
		except OSError:
		    pass
	END
	)
	[ -z "$WHY" ]
}
