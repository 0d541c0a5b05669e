"""Over loopback, both roles in one process each: usage last_word.py LIBRARY DIRECTORY.  Says TAP."""
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time

ME = os.path.abspath(__file__)
TIMES = 200


def listener(backlog=64):
    it = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    print(it.getsockname()[1], flush=True)
    return it


def serve(how):
    """Echoes until the peer has ended, and ends too: in order, or without a word."""
    it = listener()
    for _ in range(TIMES):
        peer = it.accept()[0]
        while data := peer.recv(1000):
            peer.sendall(data)
            if how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
        if how == "shut":
            peer.shutdown(socket.SHUT_WR)
        peer.close()


def call(how, port):
    for _ in range(1 if how == "die" else TIMES):
        peer = socket.create_connection(("127.0.0.1", int(port)))
        peer.sendall(b"x" * 300)
        peer.recv(1000)
        if how == "die":
            while peer.recv(1000):
                pass
        if how == "shut":
            peer.shutdown(socket.SHUT_WR)
        peer.close()


def connecting(how):
    """A peer without holdfast whose backlog is full: our second call is not answered while the program looks."""
    it = socket.create_server(("127.0.0.1", 0), backlog=0)
    peer = socket.socket()
    peer.setblocking(False)
    peer.connect_ex(it.getsockname())
    ready = select.epoll()
    ready.register(peer, select.EPOLLOUT)
    asked = select.poll()
    asked.register(peer, select.POLLOUT)
    told = ready.poll(5) != []
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        if asked.poll(0) != [(peer.fileno(), select.POLLOUT)]:
            told = False
        time.sleep(0.01)
    print(told and peer.send(b"hello") == 5)


def play(lib, directory):
    def run(who, *args, **more):
        env = dict(
            os.environ,
            LD_PRELOAD=lib,
            HOLDFAST_MODE="wrap",
            HOLDFAST_INTERVAL="200ms",
            HOLDFAST_TIMEOUT="5s",
            HOLDFAST_HELLO_WAIT="200ms" if who == "connecting" else "5s",
            HOLDFAST_LEVEL="info",
            HOLDFAST_FORMAT="json",
            HOLDFAST_REPORT="file:" + os.path.join(directory, who + args[0]),
        )
        return subprocess.Popen([sys.executable, ME, who, *args], env=env, stdout=subprocess.PIPE, text=True)

    def vanished(name):
        path = os.path.join(directory, name)
        lines = open(path).readlines() if os.path.exists(path) else []
        return sum(json.loads(line)["event"] == "vanished" for line in lines)

    def check(what, good):
        print("ok" if good else "not ok", "last-word", what, flush=True)

    for how, expected in ("close", 0), ("shut", 0), ("die", 1):
        server = run("serve", how)
        client = run("call", how, server.stdout.readline().strip())
        check(f"{how}: both end", client.wait(60) == 0 and server.wait(60) == (-9 if how == "die" else 0))
        seen = vanished("call" + how), vanished("serve" + how)
        check(f"{how}: told as vanished: {expected}, not {seen}", seen == (expected, 0))
    check("who was told to be connected stays so", run("connecting", "poll").communicate(timeout=20)[0] == "True\n")


if __name__ == "__main__":
    roles = {"serve": serve, "call": call, "connecting": connecting}
    roles.get(sys.argv[1], play)(*sys.argv[2 if sys.argv[1] in roles else 1 :])
