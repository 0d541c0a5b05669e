"""A process forked when its connection has been gone on with before, or is broken: the child has what the connection keeps
as well, and the connection goes on once more, in both.

forked.py LIB DIR              plays it: TAP on standard output
forked.py end PORT CHILD       one end: no word of holdfast in it. PORT 0: listens, and says where. What it does stands in
                               standard input: "say WORD", "hear LENGTH", "fork": the child does what comes in CHILD
"""
import os
import signal
import socket
import subprocess
import sys
import time


def do(c, line, child):
    what, _, about = line.strip().partition(" ")
    if what == "say":
        c.sendall(about.encode())
    elif what == "hear":
        got = b""
        while len(got) < int(about) and (more := c.recv(int(about) - len(got))):
            got += more
        print("heard", got.decode(), flush=True)
        return
    elif what == "fork" and os.fork() == 0:
        for line in os.fdopen(child):
            do(c, line, -1)
        os._exit(0)
    print("did", what, flush=True)


def end(port, child):
    if port == 0:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            print(listener.getsockname()[1], flush=True)
            c, _ = listener.accept()
    else:
        c = socket.create_connection(("127.0.0.1", port))
    c.settimeout(None)
    for line in sys.stdin:
        try:
            do(c, line, child)
        except OSError as error:
            print("failed", error, flush=True)


class End:
    def __init__(self, lib, directory, name, port):
        ours, self.child = os.pipe()
        self.report = directory + "/" + name + ".json"
        env = dict(os.environ, LD_PRELOAD=lib, HOLDFAST_MODE="wrap", HOLDFAST_ON_DEAD="reconnect", HOLDFAST_HELLO_WAIT="5s",
                   HOLDFAST_INTERVAL="200ms", HOLDFAST_TIMEOUT="10s", HOLDFAST_LEVEL="debug", HOLDFAST_FORMAT="json",
                   HOLDFAST_REPORT="file:" + self.report)
        self.process = subprocess.Popen([sys.executable, __file__, "end", str(port), str(ours)], env=env, pass_fds=[ours],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        os.close(ours)
        self.port = int(self.process.stdout.readline()) if port == 0 else port

    def __call__(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def child_does(self, command):
        os.write(self.child, (command + "\n").encode())
        return self.process.stdout.readline().strip()

    def told(self, event):
        try:
            with open(self.report) as f:
                return f.read().count('"event":"%s"' % event)
        except OSError:
            return 0

    def stop(self):
        os.close(self.child)
        self.process.kill()
        self.process.wait()


def until(true):
    deadline = time.monotonic() + 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def session(lib, directory, who, broken, unread):
    name = "the %s forks %s, %s" % (who, "while it is broken" if broken else "behind an outage",
                                    "bytes unread" if unread else "nothing unread")
    ends = {"server": End(lib, directory, "server", 0)}
    ends["client"] = End(lib, directory, "client", ends["server"].port)
    forker, peer = ends[who], ends["client" if who == "server" else "server"]

    def expect(said_so, what):
        if said_so != what:
            raise AssertionError("%r, not %r" % (said_so, what))

    def destroy(whose):
        time.sleep(0.3)
        which = "dport" if whose == "client" else "sport"
        subprocess.run(["ss", "-K", "-tn", "state", "established", which, "= :%d" % forker.port], stdout=subprocess.DEVNULL)

    def resumed(times):
        if not until(lambda: all(e.told("resumed") == times for e in ends.values())):
            raise AssertionError("not gone on with the %d. time" % times)

    try:
        for one, other in ((forker, peer), (peer, forker)):
            expect(one("say hello"), "did say")
            expect(other("hear 5"), "heard hello")
        if not until(lambda: all(e.told("wrapped") == 1 for e in ends.values())):
            raise AssertionError("not wrapped")
        if unread:
            expect(peer("say unread"), "did say")
        if broken:
            peer.process.send_signal(signal.SIGSTOP)
        destroy("client")
        if not broken:
            resumed(1)
        elif not until(lambda: forker.told("broken") == 1):
            raise AssertionError("not broken")
        expect(forker("fork"), "did fork")
        if broken:
            peer.process.send_signal(signal.SIGCONT)
            resumed(1)
        destroy("server")
        resumed(2)
        if unread:
            expect(forker.child_does("hear 6"), "heard unread")
        expect(peer("say more"), "did say")
        expect(forker.child_does("hear 4"), "heard more")
        expect(forker("say answer"), "did say")
        expect(peer("hear 6"), "heard answer")
        destroy("client")
        resumed(3)
        for does in forker, forker.child_does:
            expect(peer("say again"), "did say")
            expect(does("hear 5"), "heard again")
            expect(does("say and again"), "did say")
            expect(peer("hear 9"), "heard and again")
        print("ok forked:", name)
    except AssertionError as error:
        print("not ok forked: %s: %s" % (name, error))
    for e in ends.values():
        e.stop()
        os.remove(e.report)


if sys.argv[1] == "end":
    end(int(sys.argv[2]), int(sys.argv[3]))
else:
    for forks in "client", "server":
        for middle in False, True:
            for waits in False, True:
                session(sys.argv[1], sys.argv[2], forks, middle, waits)
