"""Ten numbers of P0, added up by P1."""

import socket
import sys

role, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
if role == "P0":
    peer = socket.create_server((host, port)).accept()[0]
else:
    peer = socket.create_connection((host, port))
print("ready", flush=True)
input()  # permbench says go
total = 0
for _ in range(10):
    if role == "P1":
        peer.sendall(total.to_bytes(8, "big"))
        total = int.from_bytes(peer.recv(8), "big")
    else:
        peer.sendall((int.from_bytes(peer.recv(8), "big") + 4).to_bytes(8, "big"))
print("the total is", total, flush=True)
