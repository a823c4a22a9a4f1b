"""A proxy that passes bytes on to the server and cuts connections when it is told to."""

import socket
import threading


class Cutter:
    """Listens on a port of its own. `cut(mark, times)` ends the next connections whose answer holds
    the mark, without the bytes after it; what was asked is kept in `asked`."""

    def __init__(self, host, port):
        self.server = (host, port)
        self.marks = []
        self.orders = 0
        self.asked = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def cut(self, mark, times=1):
        self.marks = [mark.encode()] * times
        self.orders += 1

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, socket.create_connection(self.server) as server:
            threading.Thread(target=self.ask, args=(client, server), daemon=True).start()
            seen, orders = b"", self.orders
            while part := receive(server):
                # What was sent before the order does not count.
                seen, orders = (seen if orders == self.orders else b"") + part, self.orders
                mark = self.marks[0] if self.marks else None
                at = seen.find(mark) if mark else -1
                if at >= 0:
                    self.marks.pop(0)
                    keep = at + len(mark) - (len(seen) - len(part))
                    send(client, part[: max(keep, 0)])
                    break
                seen = seen[-4096:]
                send(client, part)
            for end in (client, server):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it has gone already

    def ask(self, client, server):
        while part := receive(client):
            self.asked.append(part.decode("utf-8", "replace"))
            send(server, part)
        try:
            server.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has gone already


def receive(end):
    try:
        return end.recv(65_536)
    except OSError:
        return b""


def send(end, part):
    try:
        end.sendall(part)
    except OSError:
        pass  # who left hears nothing
