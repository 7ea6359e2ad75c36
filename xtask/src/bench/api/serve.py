"""`uvicorn peer:app --workers 2 --loop asyncio --http h11`, on a socket that knows that it is TCP.

asyncio turns Nagle's algorithm off only for sockets made with IPPROTO_TCP. The one that uvicorn makes for several workers
is not, so every answer on a connection that is used again would wait 40 ms for an acknowledgement. uvloop has no need of
this.
"""

import socket
import sys

import uvicorn
from uvicorn.supervisors import Multiprocess

if __name__ == "__main__":
    host, port = sys.argv[1:]
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, int(port)))
    config = uvicorn.Config("peer:app", workers=2, loop="asyncio", http="h11", access_log=False)
    Multiprocess(config, sockets=[listener]).run()
