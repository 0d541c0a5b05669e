#!/usr/bin/env python3
"""A SOCKS5 server (RFC 1928, 1929) on 127.0.0.1 that carries everything to ports of 127.0.0.1, whatever was asked for.

usage: socks.py PORT LOG [SECONDS]     LOG gets a line for each request: address and port as the client named them.

Ends by itself after SECONDS (default 120).  Whoever says something else than SOCKS is hung up on.
"""
import socket
import sys
import threading
import time


def exactly(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for s in (source, target):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def serve(client, log):
    try:
        if exactly(client, 1) != b"\x05":
            raise ValueError
        methods = exactly(client, exactly(client, 1)[0])
        # torsocks asks for a name and password of its own making: each stream its own circuit.
        if 2 in methods and 0 not in methods:
            client.sendall(b"\x05\x02")
            exactly(client, 1)
            exactly(client, exactly(client, 1)[0])
            exactly(client, exactly(client, 1)[0])
            client.sendall(b"\x01\x00")
        else:
            client.sendall(b"\x05\x00")
        _, command, _, kind = exactly(client, 4)
        if kind == 1:
            name = socket.inet_ntoa(exactly(client, 4))
        elif kind == 3:
            name = exactly(client, exactly(client, 1)[0]).decode()
        else:
            name = socket.inet_ntop(socket.AF_INET6, exactly(client, 16))
        port = int.from_bytes(exactly(client, 2), "big")
        with open(log, "a") as f:
            f.write("%s %d\n" % (name, port))
        if command != 1:
            raise ValueError
        target = socket.create_connection(("127.0.0.1", port), 5)
        target.settimeout(None)
        client.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
    except (OSError, EOFError, ValueError):
        client.close()
        return
    back = threading.Thread(target=pump, args=(target, client), daemon=True)
    back.start()
    pump(client, target)
    back.join()
    client.close()
    target.close()


def main():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(16)
    end = time.monotonic() + float(sys.argv[3] if len(sys.argv) > 3 else 120)
    while (left := end - time.monotonic()) > 0:
        listener.settimeout(left)
        try:
            client, _ = listener.accept()
        except TimeoutError:
            return
        client.settimeout(None)
        threading.Thread(target=serve, args=(client, sys.argv[2]), daemon=True).start()


main()
