"""Drives the real nginx.conf or traefik files in front of three stub replicas.

usage: edge.py nginx|traefik PROGRAM [--keep-logs FILE]

Only ports, host names and paths of the files are replaced. Every promise that deploy/README.md
makes about the balancers is one line of output; the first that is broken ends with 1.
"""

import base64
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

DEPLOY = pathlib.Path(__file__).resolve().parent.parent
WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def free_ports(count):
    """Ports that nobody holds now."""
    held = []
    for _ in range(count):
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        held.append(listener)
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


class Replica:
    """A server that says what reached it."""

    def __init__(self, name):
        self.name = name
        self.ready = True
        self.seen = []
        self.connections = []
        self.go_on = threading.Event()
        replica = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                replica.connections.append(self.connection)

            def log_message(self, *_):
                pass

            def answer(self, status, body, kind="application/json", headers=()):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Request-Id", "r-" + replica.name)
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def websocket(self):
                key = self.headers["Sec-WebSocket-Key"] + WEBSOCKET
                accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
                self.send_response(101)
                self.send_header("Upgrade", "websocket")
                self.send_header("Connection", "Upgrade")
                self.send_header("Sec-WebSocket-Accept", accept)
                self.end_headers()
                self.wfile.flush()
                self.connection.sendall(self.connection.recv(100)[::-1])
                self.close_connection = True

            def stream(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Cache-Control", "no-store")
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(b'data: "first"\n\n' + b": padding\n\n" * 400)
                self.wfile.flush()
                replica.go_on.wait(60)
                self.wfile.write(b'data: "[END_OF_STREAM]"\n\n')
                self.close_connection = True

            def handle_one(self):
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                path = self.path.split("?")[0]
                if path in ("/readyz", "/livez"):
                    return self.answer(200 if replica.ready else 503, b"{}")
                replica.seen.append((self.command, path))
                upgrade = [self.headers.get(name, "").lower() for name in ("Upgrade", "Connection")]
                if upgrade == ["websocket", "upgrade"]:
                    return self.websocket()
                if path == "/chat/stream":
                    return self.stream()
                if path == "/chat/dies":
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return None
                if path == "/chat/full":
                    return self.answer(503, b'{"detail":"full"}', headers=[("Retry-After", "7")])
                if path in ("/silent", "/chat/slow"):
                    time.sleep(34)
                if path == "/large":
                    return self.answer(200, b"x" * 100_000, "text/html")
                said = {"replica": replica.name, "headers": dict(self.headers.items())}
                return self.answer(200, json.dumps(said).encode())

            do_GET = do_POST = handle_one

        self.handler = Handler
        self.server = None
        self.port = None

    def start(self, port):
        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):
                pass

        self.port = port
        self.server = Server(("127.0.0.1", port), self.handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        """Dies: nobody is listened to, and nobody who was connected is answered."""
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.connections.clear()


def ask(port, path, method="GET", headers=None, source=None):
    """The status, headers and body of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=source)
    try:
        body = b"{}" if method == "POST" else None
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


class Balancer:
    """The program under test, with the real files."""

    def __init__(self, kind, program, replicas):
        self.kind = kind
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="edge-"))
        self.port, self.ops, self.pages = free_ports(3)
        self.out = (self.home / "out.log").open("wb")
        environment = dict(os.environ)
        if kind == "nginx":
            text = (DEPLOY / "nginx/nginx.conf").read_text()
            for number, replica in enumerate(replicas, 1):
                text = text.replace(f"lyceum-{number}:8080", f"127.0.0.1:{replica.port}")
            for old, new in {
                "listen 8088": f"listen 127.0.0.1:{self.port}",
                "listen 8089": f"listen 127.0.0.1:{self.ops}",
                "listen 8087": f"listen 127.0.0.1:{self.pages}",
                "/usr/share/nginx/runbooks": f"{DEPLOY}/runbooks",
                "/tmp/nginx.pid": f"{self.home}/pid",
                "/dev/stdout": f"{self.home}/access.log",
                "/dev/stderr": f"{self.home}/error.log",
                "/etc/nginx/mime.types": f"{self.home}/mime.types",
            }.items():
                assert old in text, f"nginx.conf has no {old}"
                text = text.replace(old, new)
            (self.home / "mime.types").write_text("types { text/html html; }\n")
            (self.home / "nginx.conf").write_text(text)
            command = [program, "-p", str(self.home), "-e", str(self.home / "error.log")]
            command += ["-c", str(self.home / "nginx.conf"), "-g", "daemon off;"]
            if os.getuid() == 0:
                command[-1] += " user root;"
        else:
            text = (DEPLOY / "traefik/traefik.yml").read_text()
            for old, new in {
                '":8000"': f'"127.0.0.1:{self.port}"',
                '":8082"': f'"127.0.0.1:{self.ops}"',
                "/etc/traefik/dynamic.yml": f"{self.home}/dynamic.yml",
                "format: common\n  bufferingSize: 100": (
                    f"format: common\n  filePath: {self.home}/access.log"
                ),
            }.items():
                assert old in text, f"traefik.yml has no {old}"
                text = text.replace(old, new)
            (self.home / "traefik.yml").write_text(text)
            routes = (DEPLOY / "traefik/dynamic.yml").read_text()
            users = self.home / "operators"
            users.write_text("ops:{SHA}" + base64.b64encode(hashlib.sha1(b"pw").digest()).decode())
            routes = routes.replace("/etc/traefik/secrets/operators", str(users))
            (self.home / "dynamic.yml").write_text(routes)
            addresses = [f"http://127.0.0.1:{replica.port}" for replica in replicas]
            environment["KIT_REPLICAS"] = ",".join(addresses)
            command = [program, f"--configFile={self.home}/traefik.yml"]
        self.process = subprocess.Popen(
            command, stdout=self.out, stderr=self.out, cwd=self.home, env=environment
        )
        self.wait_until_up()

    def wait_until_up(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            assert self.process.poll() is None, f"{self.kind} ended:\n{self.said()}"
            try:
                if ask(self.port, "/livez")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"{self.kind} does not answer:\n{self.said()}")

    def said(self):
        return "\n".join(file.read_text(errors="replace") for file in self.home.glob("*.log"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.out.close()


class Tests:
    """The promises, in an order in which the cheap ones come first."""

    def __init__(self, balancer, replicas):
        self.balancer, self.replicas = balancer, replicas
        self.port = balancer.port

    def promise_requests_reach_every_replica(self):
        for _ in range(30):
            status, _, _ = ask(self.port, "/")
            assert status == 200, status
        for replica in self.replicas:
            assert replica.seen, f"{replica.name} got nothing"

    def promise_the_client_is_named_and_its_key_passes(self):
        headers = {"Authorization": "Bearer k", "X-Forwarded-User": "root"}
        _, _, body = ask(self.port, "/chat", "POST", headers)
        got = json.loads(body)["headers"]
        assert got["Authorization"] == "Bearer k", got
        assert got["X-Forwarded-For"].endswith("127.0.0.1"), got
        if self.balancer.kind == "traefik":
            assert "X-Forwarded-User" not in got, got

    def promise_metrics_are_not_for_the_public(self):
        # Traefik lets its own machine through, which 127.0.0.2 is not to it.
        for path in ("/metrics", "/api/metrics"):
            status, _, _ = ask(self.port, path, source=("127.0.0.2", 0))
            assert status in (403, 404), f"{path} answers {status}"

    def promise_a_stream_passes_at_once_and_uncompressed(self):
        for replica in self.replicas:
            replica.go_on.clear()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        began = time.monotonic()
        connection.request("POST", "/chat/stream", b"{}", {"Accept-Encoding": "gzip, br"})
        response = connection.getresponse()
        line = response.readline()
        took = time.monotonic() - began
        assert line == b'data: "first"\n', line
        assert took < 1, f"the first event took {took:.1f} s"
        assert response.headers.get("Content-Encoding") is None, response.headers
        for replica in self.replicas:
            replica.go_on.set()
        assert b"[END_OF_STREAM]" in response.read()

    def promise_traefik_compresses_large_answers(self):
        _, headers, body = ask(self.port, "/large", headers={"Accept-Encoding": "gzip"})
        assert headers["Content-Encoding"] == "gzip", headers
        assert len(body) < 10_000, len(body)

    def promise_a_websocket_is_upgraded_and_carries_bytes_both_ways(self):
        with socket.create_connection(("127.0.0.1", self.port), 5) as client:
            client.sendall(
                b"GET /threads/t/socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            head = b""
            while b"\r\n\r\n" not in head:
                more = client.recv(1000)
                assert more, f"closed after {head}"
                head += more
            assert head.startswith(b"HTTP/1.1 101"), head
            client.sendall(b"abc")
            assert client.recv(10) == b"cba"

    def promise_a_full_queue_is_told_and_no_failed_peer(self):
        for _ in range(12):
            status, headers, _ = ask(self.port, "/chat/full", "POST")
            assert (status, headers["Retry-After"]) == (503, "7"), (status, headers)
        for _ in range(6):
            assert ask(self.port, "/chat", "POST")[0] == 200

    def promise_a_request_that_was_sent_is_not_sent_again(self):
        before = self.count("/chat/dies")
        status, _, _ = ask(self.port, "/chat/dies", "POST")
        assert status == 502, status
        assert self.count("/chat/dies") == before + 1, self.count("/chat/dies") - before

    def promise_traefik_keeps_a_client_with_its_replica(self):
        _, headers, body = ask(self.port, "/")
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie, cookie
        first = json.loads(body)["replica"]
        for path in ["/", "/chat"] * 5:
            _, _, body = ask(self.port, path, headers={"Cookie": cookie.split(";")[0]})
            assert json.loads(body)["replica"] == first, f"{path} went elsewhere"

    def promise_a_dead_replica_fails_nobody(self):
        dead = self.replicas[0]
        cookie = None
        if self.balancer.kind == "traefik":
            while True:
                _, headers, body = ask(self.port, "/")
                if json.loads(body)["replica"] == dead.name:
                    cookie = headers["Set-Cookie"].split(";")[0]
                    break
        dead.stop()
        began = time.monotonic()
        for number in range(40):
            method, path = [("GET", "/"), ("POST", "/chat")][number % 2]
            status, _, _ = ask(self.port, path, method)
            assert status == 200, f"request {number}: {status}"
        # A client with the cookie of the dead is kept to it until it is seen to be dead.
        if cookie:
            self.wait(lambda: ask(self.port, "/", headers={"Cookie": cookie})[0] == 200, 11)
            print(f"  its own clients waited {time.monotonic() - began:.1f} s")
        dead.start(dead.port)

    def promise_traefik_gives_nothing_to_a_replica_that_is_not_ready(self):
        drains = self.replicas[1]
        drains.ready = False

        def left_alone():
            drains.seen.clear()
            for _ in range(12):
                assert ask(self.port, "/")[0] == 200
            return not drains.seen

        self.wait(left_alone, 15)
        drains.ready = True
        self.wait(lambda: not left_alone(), 15)

    def promise_a_slow_turn_is_waited_for(self):
        if self.balancer.kind == "nginx":
            assert ask(self.port, "/chat/slow", "POST")[0] == 200
            return
        # Everything else has 30 s there.
        results = {}

        def slow(path, method):
            began = time.monotonic()
            results[path] = (ask(self.port, path, method)[0], time.monotonic() - began)

        both = [("/silent", "GET"), ("/chat/slow", "POST")]
        threads = [threading.Thread(target=slow, args=one) for one in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        status, took = results["/silent"]
        assert status == 504 and 29 < took < 33, results
        assert results["/chat/slow"][0] == 200, results

    def promise_too_many_requests_are_told_429(self):
        statuses = []
        lock = threading.Lock()

        def burst():
            for _ in range(40):
                status = ask(self.port, "/")[0]
                with lock:
                    statuses.append(status)

        threads = [threading.Thread(target=burst) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kinds = {status: statuses.count(status) for status in set(statuses)}
        assert set(kinds) == {200, 429}, kinds

    def promise_the_figures_are_there(self):
        if self.balancer.kind == "nginx":
            status, _, body = ask(self.balancer.ops, "/nginx_status")
            assert status == 200 and b"Active connections" in body, (status, body)
            return
        _, _, body = ask(self.balancer.ops, "/metrics")
        assert b"traefik_service_requests_total" in body
        assert ask(self.balancer.ops, "/ping")[0] == 200
        assert ask(self.balancer.ops, "/dashboard/")[0] == 401
        key = "Basic " + base64.b64encode(b"ops:pw").decode()
        assert ask(self.balancer.ops, "/dashboard/", headers={"Authorization": key})[0] == 200

    def promise_nginx_serves_the_page_of_every_alert(self):
        links = set()
        for rules in (DEPLOY / "prometheus/rules").glob("*.yml"):
            links.update(re.findall(r"runbook_url: (\S+)", rules.read_text()))
        assert len(links) > 47, len(links)
        for link in links:
            status, headers, body = ask(self.balancer.pages, "/" + link.rsplit("/", 1)[1])
            assert status == 200 and body.startswith(b"# "), f"{link}: {status}"
            assert headers["Content-Type"].startswith("text/"), headers
        assert ask(self.balancer.pages, "/")[0] == 200

    def count(self, path):
        return sum(replica.seen.count(("POST", path)) for replica in self.replicas)

    def wait(self, condition, seconds):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s"
            time.sleep(0.5)

    def run(self):
        for name in [name for name in vars(Tests) if name.startswith("promise_")]:
            # Some are of one program alone, which their names begin with.
            of = name.removeprefix("promise_").split("_")[0]
            if of in ("nginx", "traefik") and of != self.balancer.kind:
                continue
            began = time.monotonic()
            getattr(self, name)()
            what = name.removeprefix("promise_").replace("_", " ")
            print(f"{self.balancer.kind}: {what} ({time.monotonic() - began:.1f} s)", flush=True)


def main():
    kind, program = sys.argv[1:3]
    keep = sys.argv[4] if sys.argv[3:4] == ["--keep-logs"] else None
    replicas = [Replica(f"replica-{number}") for number in (1, 2, 3)]
    for replica, port in zip(replicas, free_ports(3)):
        replica.start(port)
    balancer = Balancer(kind, shutil.which(program) or program, replicas)
    try:
        Tests(balancer, replicas).run()
    except BaseException:
        print(balancer.said()[-3000:], file=sys.stderr)
        raise
    finally:
        balancer.stop()
        lines = balancer.said()
        if keep:
            pathlib.Path(keep).write_text(re.sub(r"\n+", "\n", lines))
        shutil.rmtree(balancer.home, ignore_errors=True)


if __name__ == "__main__":
    main()
