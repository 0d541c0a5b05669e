"""What epoll(7) tells of a connection that has gone on over another one: what the program registered last, and nothing
of what it has taken out.  The library keeps a record of registrations, and brings them over.

registered.py LIB DIR      plays it: TAP on standard output
registered.py serve        the server: no word of holdfast in it
"""
import ctypes
import os
import socket
import subprocess
import sys
import time

ADD, DEL, MOD, IN = 1, 2, 3, 1
LIBC = ctypes.CDLL(None, use_errno=True)


class Event(ctypes.Structure):
    _pack_ = 1 if os.uname().machine == "x86_64" else 0
    _fields_ = [("events", ctypes.c_uint32), ("data", ctypes.c_uint64)]


def control(ep, op, fd, data=0):
    event = Event(IN, data)
    assert LIBC.epoll_ctl(ep, op, fd, ctypes.byref(event)) == 0, os.strerror(ctypes.get_errno())


def wait(ep, ms):
    """The data of what is told within MS."""
    events = (Event * 8)()
    return [events[i].data for i in range(LIBC.epoll_wait(ep, events, 8, ms))]


def serve():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        c, _ = listener.accept()
    ep, other = LIBC.epoll_create1(0), LIBC.epoll_create1(0)

    def step(name):
        print(name, flush=True)
        return sys.stdin.readline()

    control(ep, ADD, c.fileno(), 1)
    control(ep, MOD, c.fileno(), 2)
    control(other, ADD, c.fileno(), 3)
    step("registered")  # a word comes, and the connection breaks
    for _ in range(5):
        print("told %s %s" % (wait(ep, 200), wait(other, 200)), flush=True)
    control(ep, DEL, c.fileno())
    print("out %s %s" % (wait(ep, 200), wait(other, 200)), flush=True)
    c.recv(100)
    step("read")  # once more
    print("out %s %s" % (wait(ep, 500), wait(other, 500)), flush=True)
    c.recv(100)
    control(ep, ADD, c.fileno(), 4)
    step("again")
    print("told %s %s" % (wait(ep, 2000), wait(other, 2000)), flush=True)
    print("read %r" % c.recv(100), flush=True)


def play(lib, directory):
    def start(name, command, **pipes):
        env = dict(os.environ, LD_PRELOAD=lib, HOLDFAST_MODE="wrap", HOLDFAST_ON_DEAD="reconnect", HOLDFAST_HELLO_WAIT="5s",
                   HOLDFAST_INTERVAL="200ms", HOLDFAST_TIMEOUT="10s", HOLDFAST_LEVEL="info", HOLDFAST_FORMAT="json",
                   HOLDFAST_REPORT="file:%s/%s.json" % (directory, name))
        return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **pipes)

    def resumed():
        try:
            with open(directory + "/server.json") as f:
                return f.read().count('"event":"resumed"')
        except OSError:
            return 0

    def destroyed(times):
        time.sleep(0.3)
        subprocess.run(["ss", "-K", "-tn", "dport", "= :%d" % port], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while resumed() < times and time.monotonic() < until:
            time.sleep(0.02)
        return resumed() == times

    server = start("server", [sys.executable, __file__, "serve"])
    port = int(server.stdout.readline())
    client = start("client", ["socat", "STDIO", "TCP:127.0.0.1:%d" % port])

    def say(word):
        client.stdin.write(word)
        client.stdin.flush()

    def check(what, good, said=""):
        print("%s registered: %s%s" % ("ok" if good else "not ok", what, "" if good else ": " + said), flush=True)

    def line():
        return server.stdout.readline().strip()

    def go():
        server.stdin.write("\n")
        server.stdin.flush()

    line()
    say("one")
    check("the first connection is gone on with", destroyed(1))
    go()
    told = [line() for _ in range(5)]
    check("what was registered last is told", told == ["told [2] [3]"] * 5, str(told))
    said = line()
    check("what was taken out is not told", said == "out [] [3]", said)
    line()
    say("two")
    check("the second is gone on with", destroyed(2))
    go()
    said = line()
    check("nor of the next connection", said == "out [] [3]", said)
    line()
    say("three")
    go()
    said = line()
    check("and put in again it is", said == "told [4] [3]", said)
    said = line()
    check("the bytes are there", said == "read b'three'", said)
    for p in server, client:
        p.kill()
        p.wait()


if sys.argv[1] == "serve":
    serve()
else:
    play(*sys.argv[1:])
