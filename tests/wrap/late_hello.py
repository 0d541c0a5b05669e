"""A server in wrap mode whose client says nothing for longer than a server that wants to speak would wait.

late_hello.py LIB DIR                plays it: TAP on standard output
late_hello.py server STYLE           the server: no word of holdfast in it; blocking, select, poll or epoll-et
"""
import os
import select
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "security"))
from forged import DATA, HELLO, MAGIC, frame, hello  # noqa: E402

STYLES = "blocking", "select", "poll", "epoll-et"
LATE = 0.7  # seconds: well over the 250 ms of a server that has something to say


# --- the server ---

def wait(style, c):
    """Until C can be read."""
    if style == "select":
        select.select([c], [], [])
    elif style == "poll":
        p = select.poll()
        p.register(c, select.POLLIN)
        p.poll()
    elif style == "epoll-et":
        with select.epoll() as p:
            p.register(c, select.EPOLLIN | select.EPOLLET)
            p.poll()


def serve(style):
    """One connection after the other: answers what comes in capitals, and says what came and how it ended.  A client
    of whose port the last digit is 0 is greeted at once; 1: after LATE."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=16)
    print(listener.getsockname()[1], flush=True)
    while True:
        c, peer = listener.accept()
        if peer[1] % 10 < 2:
            time.sleep(peer[1] % 10 * LATE)
            c.sendall(b"HAIL")
        if style != "blocking":
            c.setblocking(False)
        try:
            while True:
                wait(style, c)
                try:
                    data = c.recv(65536)
                except BlockingIOError:
                    if style != "epoll-et":
                        print("nothing to read", flush=True)
                    continue
                if not data:
                    print("end", flush=True)
                    break
                print("got %r" % data, flush=True)
                c.sendall(data.upper())
        except OSError as e:
            error = c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            print("error", e.errno, error, flush=True)
        c.close()


# --- the clients ---

def dial(port, digit):
    """A connection from a port with this last digit."""
    for tries in range(2000):
        s = socket.socket()
        s.settimeout(20)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", 20000 + (os.getpid() * 7 + tries) % 1000 * 10 + digit))
            s.connect(("127.0.0.1", port))
            return s
        except OSError:
            s.close()
    raise SystemExit("no port")


def exactly(s, size):
    data = b""
    while len(data) < size and (more := s.recv(size - len(data))):
        data += more
    return data


def speaker(port, pieces):
    """Says HELLO late, in PIECES; True: it is answered, and so is a line in a frame."""
    with dial(port, 5) as s:
        said, _ = hello(0, os.urandom(16), buffer=0)
        time.sleep(LATE)
        for a, b in zip((0,) + pieces, pieces + (HELLO,)):
            s.sendall(said[a:b])
            time.sleep(0.05)
        answer = exactly(s, HELLO)
        if not answer.startswith(MAGIC):
            return False
        # A header that comes alone, or in two pieces, is nothing to read yet.
        said = frame(DATA, b"line")
        for piece in said[:4], said[4:8], said[8:]:
            s.sendall(piece)
            time.sleep(0.05)
        while (head := exactly(s, 8)) and head[0] != DATA:
            exactly(s, struct.unpack("<I", head[4:])[0])
        return exactly(s, struct.unpack("<I", head[4:])[0]) == b"LINE"


def plain(port):
    with dial(port, 5) as s:
        time.sleep(LATE)
        s.sendall(MAGIC[:1] + b"plain")  # even what begins like a HELLO
        return exactly(s, 6) == MAGIC[:1] + b"PLAIN"


def ended(port):
    with dial(port, 5):
        time.sleep(LATE)
    return True


def reset(port):
    s = dial(port, 5)
    time.sleep(LATE)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
    return True


def greeted(port):
    with dial(port, 0) as s:
        return exactly(s, 4) == b"HAIL"


def greeted_late(port):
    """At once when the server has something to say: not LATE after it."""
    begun = time.monotonic()
    with dial(port, 1) as s:
        return exactly(s, 4) == b"HAIL" and time.monotonic() - begun < LATE + 3


CASES = (
    ("a late HELLO is answered", lambda p: speaker(p, ()), "got b'line'\nend\n"),
    ("one that comes in pieces, too", lambda p: speaker(p, (3, 100)), "got b'line'\nend\n"),
    ("what is none is the program's", plain, "got b'\\x8bplain'\nend\n"),
    ("an end", ended, "end\n"),
    ("a reset", reset, "error 104 0\n"),
    ("a greeting need not wait for the peer", greeted, "end\n"),
    ("nor one that comes late itself", greeted_late, "end\n"),
)


def until(check, seconds=10):
    over = time.monotonic() + seconds
    while not check() and time.monotonic() < over:
        time.sleep(0.02)
    return check()


def play(lib, directory):
    for style in STYLES:
        base = os.path.join(directory, style)
        env = dict(os.environ, LD_PRELOAD=lib, HOLDFAST_MODE="wrap", HOLDFAST_HELLO_WAIT="20s", HOLDFAST_LEVEL="info",
                   HOLDFAST_FORMAT="json", HOLDFAST_REPORT="file:" + base + ".events")
        with open(base + ".out", "w") as out:
            server = subprocess.Popen([sys.executable, __file__, "server", style], env=env, stdout=out)

        def told():
            with open(base + ".out") as f:
                return f.read()

        if not until(lambda: "\n" in told()):
            print("not ok late-hello: %s: the server did not start" % style)
            server.kill()
            continue
        port = int(told())
        for what, client, expected in CASES:
            before = told()
            try:
                good = client(port)
            except OSError as e:
                good = print("# %s: %s" % (style, e))
            good = until(lambda: told()[len(before):] == expected) and good
            if not good:
                print("# told %r instead of %r" % (told()[len(before):][:200], expected))
            print("%s late-hello: %s: %s" % ("ok" if good else "not ok", style, what), flush=True)
        server.kill()
        server.wait()
        with open(base + ".events") as f:
            wrong = [line for line in f if '"event":"config"' in line or '"event":"corrupt"' in line]
        print("%s late-hello: %s: nothing to complain of" % ("not ok" if wrong else "ok", style))
        for line in wrong:
            print("# " + line, end="")


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(sys.argv[2])
    else:
        play(*sys.argv[1:])
