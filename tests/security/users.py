"""The programs of users.test: a forking server and its client, and what another user tries.

users.py server                      says its port, answers lines with themselves in capitals, a child for each client
users.py client PORT                 says each line of standard input, and what is answered
users.py become PROGRAM ARGUMENT...  the same process becomes another program, with a wrapped listener's arena
users.py pry PID...                  as another user: exit status 3 if anything can be got at
users.py letter | flood | hold       as another user: to every mailbox
users.py reset PORT                  as root: destroys the connections to PORT
"""
import array
import glob
import os
import re
import socket
import struct
import subprocess
import sys
import time

from lines import converse as client  # users.py client PORT


def server():
    listener = socket.create_server(("127.0.0.1", 0), backlog=16)
    print(listener.getsockname()[1], flush=True)
    while True:
        c, _ = listener.accept()
        if os.fork() != 0:
            c.close()
            continue
        listener.close()
        with c.makefile("rb", buffering=0) as lines:
            for line in lines:
                c.sendall(line.upper())
        os._exit(0)


def become(program, *arguments):
    listener = socket.create_server(("127.0.0.1", 0))
    os.execv(program, [program, *arguments])
    listener.close()


def pry(pids):
    """Every way to memory that somebody else shares: proc(5), process_vm_readv(2), pidfd_getfd(2)."""
    got, tries = [], 0
    for pid in pids:
        for pattern in ("/proc/%s/fd/9*", "/proc/%s/map_files/*", "/proc/%s/mem", "/proc/%s/environ", "/proc/%s/maps"):
            for path in glob.glob(pattern % pid) or [pattern % pid]:
                tries += 1
                try:
                    with open(path, "rb") as f:
                        if f.read(1):
                            got.append(path)
                except OSError:
                    pass
        for fd in range(900, 1024):
            tries += 1
            try:
                os.close(os.open("/proc/%s/fd/%d" % (pid, fd), os.O_RDWR))
                got.append("fd %d of %s" % (fd, pid))
            except OSError:
                pass
    for key in glob.glob(os.path.dirname(os.path.abspath(__file__)) + "/owner/*"):
        tries += 1
        try:
            with open(key, "rb"):
                got.append(key)
        except OSError:
            pass
    print("%d of %d tries" % (len(got), tries))
    sys.exit(3 if got else 0)


def mailboxes():
    with open("/proc/net/unix") as f:
        return ["\0" + m for m in re.findall(r"@(holdfast-[0-9a-f]{16})$", f.read(), re.M)]


def connected(name):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(5)
    s.connect(name)
    return s


def letter():
    """A TCP connection for a session: nothing of it is looked at, and it is closed at once."""
    names = mailboxes()
    assert names, "no mailbox"
    for name in names:
        listener = socket.create_server(("127.0.0.1", 0))
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        # A HELLO with RESUME, of no session: refused by whoever reads it.
        ours.sendall(b"\x8bHF\r\n\x1a\n\0" + struct.pack("<HHI", 1, 264, 4) + os.urandom(16) + bytes(232))
        s = connected(name)
        try:
            s.sendmsg([os.urandom(16)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))])
            theirs.close()
            assert s.recv(1) == b""
        except (BrokenPipeError, ConnectionResetError):
            theirs.close()
        # A program that had taken it would have said something: an answer, or a refusal.
        ours.settimeout(5)
        try:
            assert ours.recv(1000) == b"", "something was answered"
        except ConnectionResetError:
            pass
    print("%d mailboxes" % len(names))


def flood():
    names = mailboxes()
    for _ in range(500):
        for name in names:
            try:
                connected(name).close()
            except (BlockingIOError, TimeoutError):
                pass


def hold():
    """Keeps all of them full, as far as that goes, for some seconds."""
    end = time.monotonic() + 6
    kept = []
    while time.monotonic() < end:
        for name in mailboxes():
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            s.setblocking(False)
            try:
                s.connect(name)
            except OSError:
                time.sleep(0.001)
            kept = kept[-300:] + [s]


def reset(port):
    subprocess.run(["ss", "-K", "-tn", "state", "established", "dport = :%d or sport = :%d" % (port, port)],
                   stdout=subprocess.DEVNULL, check=True)


what, arguments = sys.argv[1], sys.argv[2:]
if what == "pry":
    pry(arguments)
elif what == "become":
    become(*arguments)
else:
    globals()[what](*map(int, arguments))
