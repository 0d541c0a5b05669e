"""What an attacker who speaks the wire format (include/holdfast/wire.h) can do to a session, and what not.

forged.py keyed|unkeyed LIB DIR      plays it: TAP on standard output
forged.py server PORT                both programs of it: no word of holdfast in them
forged.py client PORT

The client goes through a proxy of the test's own, which writes down what both libraries say, and can reset the path.
"""
import hashlib
import hmac
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

from lines import converse

MAGIC = b"\x8bHF\r\n\x1a\n\0"
HELLO, CHECK, SESSION, NONCE, OFFSET = 264, 232, 16, 32, 64
SERVER, KEYED, RESUME, REFUSED = 1, 2, 4, 8
DATA, PROOF = 1, 6


# --- the wire format ---

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def resume_key(shared, session):
    return mac(shared, b"holdfast resume", session) if shared else mac(session, b"holdfast resume")


def resume_name(key):
    return mac(key, b"holdfast name")[:16]


def hello(flags, session, offset=0, key=None, nonce=None, buffer=1 << 20):
    """A client's HELLO; keyed with KEY, otherwise its check is a CRC32C."""
    nonce = nonce or os.urandom(16)
    body = MAGIC + struct.pack("<HHI", 1, HELLO, flags | (KEYED if key else 0)) + session + nonce
    body += struct.pack("<IIIIQ", 500, 10000, buffer, os.getpid(), offset) + bytes(32 + 64 + 64)
    return body + (mac(key, body) if key else struct.pack("<I", crc32c(body)) + bytes(28)), nonce


def frame(kind, payload):
    rest = struct.pack("<BB", kind, 0) + struct.pack("<I", len(payload))
    return rest[:2] + struct.pack("<H", crc32c(rest) & 0xFFFF) + rest[2:] + payload


def proof(key, client_nonce, server_nonce):
    return frame(PROOF, mac(key, b"holdfast proof", client_nonce, server_nonce))


def flags_of(h):
    return struct.unpack_from("<I", h, 12)[0]


# --- the two programs ---

def server(port):
    """Answers each line with what it is in capitals, and says on standard output what came on which connection."""
    listener = socket.create_server(("127.0.0.1", port), backlog=16)
    print("listening", flush=True)

    def serve(c, n):
        try:
            with c.makefile("rb", buffering=0) as lines:
                for line in lines:
                    print("%d %r" % (n, line), flush=True)
                    c.sendall(line.upper())
            print("%d end" % n, flush=True)
        except OSError as e:
            print("%d %s" % (n, e), flush=True)

    n = 0
    while True:
        c, _ = listener.accept()
        n += 1
        threading.Thread(target=serve, args=(c, n), daemon=True).start()


def client(port):
    converse(port)
    print("end", flush=True)


# --- the proxy ---

class Proxy:
    """Carries connections to PORT and remembers the bytes of each: [to the server, to the client]."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port = self.listener.getsockname()[1]
        self.said, self.open, self.change = [], [], None
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", self.target))
            for s in (near, far):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            said = [bytearray(), bytearray()]
            self.said.append(said)
            self.open = [near, far]
            for way, (a, b) in enumerate(((near, far), (far, near))):
                threading.Thread(target=self.carry, args=(a, b, said[way]), daemon=True).start()

    def carry(self, a, b, said):
        try:
            while data := a.recv(65536):
                said.extend(data)
                b.sendall(data.replace(*self.change) if self.change else data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def reset(self):
        for s in self.open:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                s.shutdown(socket.SHUT_RD)  # whoever reads it comes out, and does not keep it open
            except OSError:
                pass
            s.close()


# --- the test ---

class Play:
    def __init__(self, keyed, lib, directory):
        self.keyed, self.dir, self.lines = keyed, directory, 0
        self.secret = os.urandom(16).hex().encode() if keyed else b""
        self.failed = False
        env = dict(os.environ, LD_PRELOAD=lib, HOLDFAST_MODE="wrap", HOLDFAST_ON_DEAD="reconnect",
                   HOLDFAST_INTERVAL="500ms", HOLDFAST_TIMEOUT="10s", HOLDFAST_HELLO_WAIT="5s",
                   HOLDFAST_RECONNECT_WINDOW="20s", HOLDFAST_LEVEL="debug", HOLDFAST_FORMAT="json")
        if keyed:
            with open(directory + "/key", "wb") as f:
                f.write(self.secret + b"\n")
            env["HOLDFAST_KEY_FILE"] = directory + "/key"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.server = self.start(env, "server", self.port)
        self.server.stdout.readline()
        self.proxy = Proxy(self.port)
        self.client = self.start(env, "client", self.proxy.port)

    def start(self, env, who, port):
        env = dict(env, HOLDFAST_REPORT="file:%s/%s.json" % (self.dir, who))
        out = subprocess.PIPE if who == "client" else open(self.dir + "/server.out", "w+b")
        p = subprocess.Popen([sys.executable, os.path.abspath(__file__), who, str(port)], env=env, cwd=self.dir,
                             stdin=subprocess.PIPE, stdout=out)
        if who == "server":
            p.stdout = open(self.dir + "/server.out", "rb")
            self.until(lambda: os.path.getsize(self.dir + "/server.out") > 0, 10)
        return p

    def until(self, condition, seconds):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def check(self, what, good, detail=""):
        print("%s %s: %s" % ("ok" if good else "not ok", "keyed" if self.keyed else "unkeyed", what))
        if not good:
            print("# %s" % (detail,))
            self.failed = True

    def told(self, who, event, reason=None):
        try:
            with open("%s/%s.json" % (self.dir, who)) as f:
                events = [json.loads(line) for line in f if line.endswith("\n")]
        except FileNotFoundError:
            return 0
        return sum(e["event"] == event and reason in (None, e.get("reason")) for e in events)

    def server_got(self):
        with open(self.dir + "/server.out") as f:
            return f.read()

    def exchange(self):
        """The session lives: a line there and back, in order."""
        self.lines += 1
        line = b"line %d\n" % self.lines
        return self.ask(line) == line.upper()

    def ask(self, line):
        self.client.stdin.write(line)
        self.client.stdin.flush()
        answer = [b""]
        t = threading.Thread(target=lambda: answer.append(self.client.stdout.readline()), daemon=True)
        t.start()
        t.join(20)
        return answer[-1]

    def attack(self, *parts, wait=1.5):
        """A connection of the attacker's own, past the proxy: says the first part, then each other part (or what it
        makes of the server's HELLO) once that has come.  Returns all it gets until the end, or for WAIT seconds."""
        got = b""
        with socket.socket() as s:
            # As the library does it: the server's accept(2) finds the first part there.
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
            s.connect(("127.0.0.1", self.port))
            s.settimeout(wait)
            s.sendall(parts[0])
            try:
                while len(got) < HELLO:
                    data = s.recv(65536)
                    if not data:
                        return got
                    got += data
                for part in parts[1:]:
                    s.sendall(part(got) if callable(part) else part)
                while data := s.recv(65536):
                    got += data
            except OSError:
                pass
        return got

    def replay(self, *parts):
        """The same until it is no refusal: what a busy server has taken for a new client it refuses as that."""
        for _ in range(5):
            got = self.attack(*parts)
            if len(got) < HELLO or not flags_of(got) & REFUSED:
                break
        return got

    def unharmed(self, what):
        self.check(what + ": the session goes on, in order", self.exchange(), self.server_got()[-500:])

    def play(self):
        self.check("a line there and back", self.exchange())
        first = bytes(self.proxy.said[-1][0])
        self.check("both wrapped", self.until(lambda: self.told("client", "wrapped") == 1 and
                                              self.told("server", "wrapped") == 1, 5))
        opening, session = first[:HELLO], first[SESSION:SESSION + 16]

        # What neither mode nor key is there for.
        with socket.create_connection(("127.0.0.1", self.port)) as plain:
            plain.settimeout(10)
            plain.sendall(b"plain\n")
            self.check("a client without holdfast is served, key or not", plain.recv(100) == b"PLAIN\n")
        self.proxy.change = b"line 2", b"LIAR 2"
        self.lines += 1
        self.check("who is on the path can change what is said, key or not", self.ask(b"line 2\n") == b"LIAR 2\n")
        self.proxy.change = None

        # The path breaks, the client resumes: what it says then is on record.
        self.proxy.reset()
        self.unharmed("a reset on the path")
        self.check("told broken and resumed", self.until(
            lambda: self.told("server", "resumed") == 1 and self.told("client", "resumed") == 1, 10))
        record = bytes(self.proxy.said[-1][0])
        resumed = record[:HELLO]
        self.check("on record is a RESUME and a PROOF, and nowhere the id of the session",
                   flags_of(resumed) & RESUME and record[HELLO] == PROOF and session not in record)
        name = resumed[SESSION:SESSION + 16]

        def broken():
            return self.told("server", "broken")

        # What is not genuine breaks nothing: refused, and the session has not noticed.
        seen = broken()
        strange, _ = hello(RESUME, os.urandom(16), key=os.urandom(32))
        changed = bytearray(resumed)
        changed[OFFSET] ^= 1
        unchecked, _ = hello(RESUME, name)
        guessed, _ = hello(RESUME, name, key=resume_key(b"", os.urandom(16)))
        forged = {"of a session that is none": strange, "with another offset": bytes(changed),
                  "with a CRC for its check": unchecked, "with a guessed key": guessed}
        if self.keyed:
            # Whoever has read the first handshake knows the id, and lacks the secret.
            known = resume_key(b"", session)
            forged["made of the first handshake alone"], _ = hello(RESUME, resume_name(known), key=known)
            forged["by that name"], _ = hello(RESUME, name, key=known)
        for what, bad in forged.items():
            got = self.attack(bad)
            self.check("a RESUME %s is refused" % what, len(got) == HELLO and flags_of(got) & REFUSED, got)
        self.check("and has broken nothing", broken() == seen)
        self.unharmed("forged")

        # A RESUME on record is genuine: the session is interrupted, for it could be its client's.  Without the proof
        # over the server's new number it comes to nothing.
        for what, last in (("and the PROOF on record", record[HELLO:HELLO + 40]),
                           ("and a forged PROOF", frame(PROOF, os.urandom(32))),
                           ("and data instead of a PROOF", frame(DATA, b"evil\n")), ("and no PROOF", b"")):
            seen, resumed_before = broken(), self.told("client", "resumed")
            got = self.replay(resumed, last)
            self.check("a replayed RESUME %s gets no byte of the session" % what,
                       len(got) == HELLO and not flags_of(got) & REFUSED, got)
            self.unharmed("replayed RESUME %s" % what)
            self.check("told: broken at the server, resumed at the client", self.until(
                lambda: broken() > seen and self.told("client", "resumed") > resumed_before, 10),
                (seen, broken()))

        # The first handshake on record, with all that followed.
        before = self.server_got()
        self.attack(opening, first[HELLO:])
        added = self.server_got()[len(before):]
        if self.keyed:
            self.check("a replayed first handshake: the program reads nothing of it", "line" not in added, added)
            self.check("told as corrupt", self.until(lambda: self.told("server", "corrupt") == 1, 5))
        else:
            self.check("a replayed first handshake is a client of its own", "'line 1" in added, added)
        self.unharmed("replayed handshake")

        # The peer is whoever can prove it.
        if not self.keyed:
            key = resume_key(b"", session)
            # The client's bytes so far; then what the attacker says is taken for the client's.
            offset = sum(len(b"LINE %d\n" % n) for n in range(1, self.lines + 1))
            evil, nonce = hello(RESUME, resume_name(key), offset=offset, key=key)
            self.attack(evil, lambda got: proof(key, nonce, got[NONCE:NONCE + 16]) + frame(DATA, b"evil\n"))
            self.check("without a key who has read the first handshake can take the session over (README)",
                       "b'evil" in self.server_got(), self.server_got()[-300:])
        else:
            self.check("nobody gave up, nothing else was told dead",
                       not any(self.told(who, "gave-up") for who in ("client", "server")))
            self.client.stdin.close()
            self.check("the client ends well", self.client.wait(10) == 0)
        self.check("the server is still there", self.server.poll() is None)

    def end(self):
        self.server.kill()
        self.client.kill()


def main():
    if sys.argv[1] == "server":
        server(int(sys.argv[2]))
    elif sys.argv[1] == "client":
        client(int(sys.argv[2]))
    else:
        play = Play(sys.argv[1] == "keyed", sys.argv[2], sys.argv[3])
        try:
            play.play()
        finally:
            play.end()
        sys.exit(play.failed)


if __name__ == "__main__":
    main()
