"""A peer in wrap mode whose frames arrive as TCP may cut them, and a program that reads them with buffers of many sizes.

    cuts.py LIBRARY      "ok NAME" or "not ok NAME: WHY" for each size

The program (cuts.py --read SIZE) is one with the library; it reads into a buffer that others stand behind.
"""

import os
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "security"))
from forged import DATA, HELLO, frame, hello  # noqa: E402

SIZES = [1, 7, 8, 9, 16, 64, 1016, 1023, 1024, 1025, 1026, 1028, 1031, 1032, 1033, 1034, 2000, 20000, 65536, 70000, 140000]
GUARD = b"\xee" * 64


def read_all(size):
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    connection, _ = listener.accept()
    room = bytearray(size) + GUARD
    got = bytearray()
    while n := connection.recv_into(memoryview(room)[:size], size):
        if room[size:] != GUARD or n > size:
            sys.exit("read %d of %d, and wrote behind the buffer" % (n, size))
        got += room[:n]
        try:
            connection.send(b"+", socket.MSG_DONTWAIT)  # the peer goes on
        except BlockingIOError:
            pass  # it has not taken all of these yet, and goes on for those
    sys.stdout.buffer.write(got)


def pieces(size):
    """What is sent at once, and the program bytes in it, to one who reads SIZE at a time."""
    for length in (1, 1015, 1016, 1017, 1023, 1024, 1025, 3000, 66000):
        data = os.urandom(length)
        sent = frame(DATA, data)
        for cut in range(1, 9):
            # A library that has seen many small ones may expect another.
            for _ in range(18 if length in (1025, 3000) else 0):
                yield frame(DATA, b"a small one"), b"a small one"
            yield frame(DATA, b"small") + sent[:cut], b"small"
            yield sent[cut:], data
            yield frame(DATA, b"one") + frame(DATA, b"two"), b"onetwo"
    # Rows of frames of one length, where a library may know beforehand where the next header is to come; or not.
    for length in (8192, 16384, 20000) if size > 1000 else ():
        for odd in (0, 1, 7, 100, length + 1, length + 8, 50000):
            row = [os.urandom(odd if odd != 0 and i == 4 else length) for i in range(7)]
            sent = b"".join(frame(DATA, data) for data in row)
            cut = 2 * (length + 8) + odd % 10
            yield sent[:cut], b"".join(row)
            yield sent[cut:], b""


def converse(size, library):
    env = dict(os.environ, LD_PRELOAD=library, HOLDFAST_MODE="wrap", HOLDFAST_HELLO_WAIT="5s")
    reader = subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), "--read", str(size)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peer = socket.create_connection(("127.0.0.1", int(reader.stdout.readline())))
    peer.settimeout(10)
    peer.setsockopt(socket.SOL_TCP, socket.TCP_NODELAY, 1)
    peer.sendall(hello(0, os.urandom(16), buffer=0)[0])
    answered = b""
    while len(answered) < HELLO:
        answered += peer.recv(HELLO - len(answered))
    expected = b""
    for sent, data in pieces(size):
        peer.sendall(sent)
        expected += data
        peer.recv(65536)  # it has read some of it: what comes next is another piece
    peer.shutdown(socket.SHUT_WR)
    got, told = reader.communicate(timeout=20)
    peer.close()
    if told or reader.returncode != 0:
        return told.decode(errors="replace").strip() or "status %d" % reader.returncode
    return None if got == expected else "%d bytes instead of %d, or others" % (len(got), len(expected))


def main():
    if sys.argv[1] == "--read":
        read_all(int(sys.argv[2]))
        return
    for size in SIZES:
        try:
            wrong = converse(size, sys.argv[1])
        except (OSError, subprocess.TimeoutExpired) as error:
            wrong = repr(error)
        print("ok cuts: reads of %d" % size if wrong is None else "not ok cuts: reads of %d: %s" % (size, wrong))


main()
