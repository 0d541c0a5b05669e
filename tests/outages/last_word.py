#!/usr/bin/env python3
"""The two ends of a connection whose last word is on its way, or has arrived unread, when its socket is destroyed.

usage: last_word.py serve HOW        prints its port, serves one connection and ends
       last_word.py dial PORT HOW    prints its port, waits for a line, reads to the end: prints how many bytes, and what
                                     the end was

HOW says how both end: close (the server closes, the client has said nothing), half (the client has ended its direction
before), request (the client has asked; its answer is the end).  With -read behind it the client has read all but the end
before it waits for the line.
"""
import socket
import sys
import time

SIZE = 20000


def serve(how):
    how = how.partition("-")[0]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        connection, _ = listener.accept()
    if how == "request":
        connection.recv(100)
    if how == "half":
        while connection.recv(100):
            pass
    connection.sendall(b"x" * SIZE)
    connection.close()
    print("closed", flush=True)


def dial(port, how):
    how, _, wait = how.partition("-")
    connection = socket.create_connection(("127.0.0.1", port))
    if how != "close":
        connection.sendall(b"ask")
    if how == "half":
        connection.shutdown(socket.SHUT_WR)
    size, end = 0, "end"
    if wait == "read":
        time.sleep(0.5)  # all has come, the last word with it
        while size < SIZE:
            size += len(connection.recv(65536))
    print(connection.getsockname()[1], flush=True)
    sys.stdin.readline()
    try:
        while got := connection.recv(4096):
            size += len(got)
    except OSError as error:
        end = error.strerror
    print(size, end, flush=True)


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    dial(int(sys.argv[2]), sys.argv[3])
