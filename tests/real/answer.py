"""A server of many connections: reads each to its end, then says a digest of it and a file.  answer.py PORT FILE"""
import hashlib, socket, sys, threading

def serve(c):
    h = hashlib.sha256()
    try:
        while data := c.recv(65536):
            h.update(data)
        c.sendall(h.hexdigest().encode() + b"\n" + open(sys.argv[2], "rb").read())
    except ConnectionError:
        pass  # a wrapped client that goes back to plain resets its first connection
    c.close()

l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(l.accept()[0],), daemon=True).start()
