"""Trouble from its first figure to the person: the real rules in a real Prometheus, the real routes in a
real AlertManager, and a sink for Slack, PagerDuty, e-mail and the watchdog.

usage: alerts.py PROMETHEUS ALERTMANAGER

Only waiting times, addresses and targets are replaced. The replicas are stubs whose figures are those
of the troubles; a fourth trouble is that one of them dies.
"""

import base64
import email
import http.server
import json
import pathlib
import re
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import yaml

DEPLOY = pathlib.Path(__file__).resolve().parent.parent
# Who must be told of what, and who must not.
TOLD = {
    "InstanceDown": {"pagerduty", "slack"},
    "LlmQueueSaturated": {"pagerduty", "slack"},
    "LlmAllBreakersOpen": {"pagerduty", "slack"},
    "LlmDailyCostHigh": {"slack"},
    "ReplicasTooFew": {"slack"},
    "Watchdog": {"watchdog"},
}
# A worse alert about the same thing is enough.
INHIBITED = "LlmQueueLong"


class Sink:
    """What arrived: (channel, firing or resolved, text)."""

    def __init__(self):
        self.got = []
        sink = self

        class Web(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                channel = self.path.strip("/").split("/")[0]
                event = json.loads(body)
                if channel == "pagerduty":
                    state = {"trigger": "firing", "resolve": "resolved"}[event["event_action"]]
                    assert event["payload"]["severity"] == "critical", event
                    body = event["payload"]["summary"]
                elif channel == "slack":
                    title = event["attachments"][0]["title"]
                    state = "resolved" if "RESOLVED" in title else "firing"
                    body = title + event["attachments"][0]["text"]
                else:
                    state = event["status"]
                sink.got.append((channel, state, body))
                said = b'{"status":"success"}' if channel == "pagerduty" else b"ok"
                self.send_response(202 if channel == "pagerduty" else 200)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

        class Mail(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(b"220 sink\r\n")
                for line in self.rfile:
                    word = line.decode(errors="replace").split()[0].upper()
                    if word == "EHLO":
                        self.wfile.write(b"250-sink\r\n250 AUTH PLAIN\r\n")
                    elif word == "AUTH":
                        given = base64.b64decode(line.split()[2]).split(b"\0")
                        good = given[1:] == [b"alerts@example.org", b"mail-password"]
                        self.wfile.write(b"235 ok\r\n" if good else b"535 no\r\n")
                    elif word == "DATA":
                        self.wfile.write(b"354 go on\r\n")
                        text = b""
                        while not text.endswith(b"\r\n.\r\n"):
                            text += self.rfile.readline()
                        subject = str(email.message_from_bytes(text)["Subject"])
                        state = "resolved" if "RESOLVED" in subject else "firing"
                        sink.got.append(("mail", state, subject))
                        self.wfile.write(b"250 taken\r\n")
                    elif word == "QUIT":
                        self.wfile.write(b"221 bye\r\n")
                        return
                    else:
                        self.wfile.write(b"250 ok\r\n")

        self.web = serve(http.server.ThreadingHTTPServer, Web)
        self.mail = serve(socketserver.ThreadingTCPServer, Mail)

    def told(self, alert, state):
        """The channels that were told of an alert."""
        return {channel for channel, was, text in list(self.got) if was == state and alert in text}


def serve(kind, handler):
    server = kind(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server.server_address[1]


class Replicas:
    """Three targets with the figures of what is wrong."""

    def __init__(self):
        self.trouble = False
        self.servers = []
        self.ports = []
        for _ in range(3):
            self.start(0)

    def start(self, port):
        replicas = self

        class Metrics(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                assert self.headers["Authorization"] == "Bearer metrics-key", self.headers
                bad = replicas.trouble
                figures = {
                    'lyceum_queue_waiting{queue="main",band="normal"}': 1001 if bad else 0,
                    'llm_breaker_state{endpoint="main"}': 2 if bad else 0,
                    "llm_cost_today_dollars": 6 if bad else 1,
                }
                body = "".join(f"{name} {value}\n" for name, value in figures.items()).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Metrics)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.servers.append(server)
        self.ports.append(server.server_address[1])

    def kill_last(self):
        server = self.servers.pop()
        server.shutdown()
        server.server_close()
        return self.ports.pop()


def prometheus_files(home, replicas, alertmanager):
    (home / "rules").mkdir()
    for file in (DEPLOY / "prometheus/rules").glob("*.yml"):
        # Minutes of patience are seconds here.
        (home / "rules" / file.name).write_text(re.sub(r"for: \d+m", "for: 2s", file.read_text()))
    (home / "secrets").mkdir()
    (home / "secrets/lyceum_key").write_text("metrics-key")
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager}"]
    (job,) = [job for job in config["scrape_configs"] if job["job_name"] == "lyceum"]
    job["static_configs"][0]["targets"] = [f"127.0.0.1:{port}" for port in replicas.ports]
    config["scrape_configs"] = [job]
    (home / "prometheus.yml").write_text(yaml.safe_dump(config))


def alertmanager_files(home, sink):
    shutil.copytree(DEPLOY / "alertmanager/templates", home / "templates")
    secrets = {
        "slack_url": f"http://127.0.0.1:{sink.web}/slack",
        "smtp_password": "mail-password",
        "pagerduty_key": "pager-key",
    }
    for name, value in secrets.items():
        (home / name).write_text(value)
    text = (DEPLOY / "alertmanager/alertmanager.yml").read_text()
    text = text.replace("/etc/alertmanager/secrets", str(home))
    text = text.replace("http://watchdog.example.org/beat", f"http://127.0.0.1:{sink.web}/watchdog")
    text = re.sub(r"(group_wait|group_interval): \d+[sm]", r"\1: 1s", text)
    config = yaml.safe_load(text)
    config["global"]["pagerduty_url"] = f"http://127.0.0.1:{sink.web}/pagerduty"
    config["global"]["smtp_smarthost"] = f"127.0.0.1:{sink.mail}"
    config["global"]["smtp_require_tls"] = False
    (home / "alertmanager.yml").write_text(yaml.safe_dump(config))


def free_port():
    with socketserver.TCPServer(("127.0.0.1", 0), None) as held:
        return held.server_address[1]


def wait(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.2)
    print(f"alerts: {what}", flush=True)


def ask(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=5) as answer:
        return json.load(answer)["data"]


def pending(port):
    return {alert["labels"]["alertname"] for alert in ask(port, "alerts")["alerts"]}


def all_up(port):
    result = ask(port, "query?query=sum(up)")["result"]
    return bool(result) and result[0]["value"][1] == "3"


def post_sla(address):
    """An objective burns for hours before it tells; here AlertManager is told at once."""
    alert = [{"labels": {"alertname": "SloLatencyBurnSlow", "severity": "warning", "category": "sla"}}]
    request = urllib.request.Request(
        f"{address}/api/v2/alerts", json.dumps(alert).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=5).read()


def main():
    prometheus, alertmanager = sys.argv[1:3]
    home = pathlib.Path(tempfile.mkdtemp(prefix="alerts-"))
    sink, replicas = Sink(), Replicas()
    ports = [free_port(), free_port()]
    alertmanager_files(home, sink)
    prometheus_files(home, replicas, ports[1])
    commands = [
        # It sends again what AlertManager missed while it was not known yet.
        [prometheus, f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/tsdb", "--rules.alert.resend-delay=1s"],
        [alertmanager, f"--config.file={home}/alertmanager.yml", f"--storage.path={home}/am", "--cluster.listen-address="],
    ]
    processes = []
    log = (home / "log").open("wb")
    try:
        for command, port in zip(commands, ports):
            command.append(f"--web.listen-address=127.0.0.1:{port}")
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        wait("the watchdog's beat arrives", lambda: sink.told("Watchdog", "firing") == {"watchdog"})
        # The first scrapes come one after the other, which looks like missing replicas.
        wait("nothing else is wrong", lambda: pending(ports[0]) == {"Watchdog"} and all_up(ports[0]))
        sink.got = [event for event in sink.got if event[0] == "watchdog"]
        replicas.trouble = True
        port = replicas.kill_last()
        for alert, channels in TOLD.items():
            wait(f"{alert} reaches {', '.join(sorted(channels))}", lambda: sink.told(alert, "firing") >= channels)
        post_sla(f"http://127.0.0.1:{ports[1]}")
        wait("an objective reaches mail", lambda: sink.told("SloLatencyBurnSlow", "firing") == {"mail"})
        for alert, channels in TOLD.items():
            found = sink.told(alert, "firing")
            assert found == channels, f"{alert} went to {found}"
        assert not sink.told(INHIBITED, "firing"), f"{INHIBITED} is told beside the worse one"
        said = " ".join(text for channel, _, text in sink.got if channel == "slack")
        for link in ("http://localhost:8087/InstanceDown.md", f"127.0.0.1:{port} does not answer"):
            assert link in said, f"Slack does not read {link}"
        replicas.trouble = False
        replicas.start(port)
        for alert in [alert for alert in TOLD if alert != "Watchdog"]:
            wait(f"{alert} is over", lambda: sink.told(alert, "resolved") >= {"slack"})
    except BaseException:
        log.flush()
        print((home / "log").read_text(errors="replace")[-3000:], file=sys.stderr)
        print(sink.got[-12:], file=sys.stderr)
        raise
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)
        shutil.rmtree(home, ignore_errors=True)


main()
