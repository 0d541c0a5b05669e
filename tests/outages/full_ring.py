"""A writer waits for room to keep what it would send, when its socket is destroyed and the connection cannot go on over
another one, because a process started by exec has it too: the write says so.

full_ring.py serve HOW        prints its port, reads until the end
full_ring.py dial PORT HOW    HOW is alone, beside (another thread reads meanwhile, and has the kernel's word for the end
                              first) or behind (the server has ended its direction)
"""
import os
import socket
import subprocess
import sys
import threading


def serve(how):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        connection, _ = listener.accept()
    connection.sendall(b"hello")
    if how == "behind":
        connection.shutdown(socket.SHUT_WR)
    try:
        while connection.recv(1 << 16):
            pass
    except OSError:
        pass


def read(connection):
    try:
        connection.recv(1)
    except OSError:
        pass


def dial(port, how):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"hello")
    connection.recv(5)
    holder = subprocess.Popen(["sleep", "30"], pass_fds=[connection.fileno()], env={"PATH": os.environ["PATH"]})
    if how == "behind":
        connection.recv(1)
    if how == "beside":
        threading.Thread(target=read, args=[connection], daemon=True).start()
    print("writes", flush=True)
    try:
        while True:
            connection.sendall(bytes(1 << 16))
    except OSError as error:
        print("told %s" % error.strerror, flush=True)
    holder.kill()
    os._exit(0)


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    dial(int(sys.argv[2]), sys.argv[3])
