#!/usr/bin/env python3
"""A writer whose peer does not read, for two seconds: prints how often a second it woke up.

usage: stalled.py block|poll     in a blocking send(2); or in poll(2), and send(2) when that says that there is room
"""
import os
import resource
import select
import socket
import sys
import threading
import time


def write(connection, polls):
    if not polls:
        connection.sendall(bytes(20 << 20))
    connection.setblocking(False)
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    while True:
        if poll.poll(100):
            try:
                connection.send(bytes(65536))
            except BlockingIOError:
                pass


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        connection, _ = listener.accept()
        time.sleep(3.5)
        os._exit(0)
    connection = socket.create_connection(listener.getsockname())
    time.sleep(0.3)
    threading.Thread(target=write, args=(connection, sys.argv[1] == "poll"), daemon=True).start()
    time.sleep(0.7)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    time.sleep(2)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before) // 2, flush=True)
    os._exit(0)


main()
