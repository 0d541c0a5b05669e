"""What the clients of these tests do: a line of standard input to the server, its answer to standard output."""
import socket
import sys


def converse(port):
    c = socket.create_connection(("127.0.0.1", port))
    answers = c.makefile("rb", buffering=0)
    for line in sys.stdin.buffer:
        c.sendall(line)
        sys.stdout.buffer.write(answers.readline())
        sys.stdout.buffer.flush()
