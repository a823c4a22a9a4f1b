"""Every expression of the dashboards has an answer: a real server under a scripted workload, scraped by a
real Prometheus with the real rules.

usage: panels.py SERVER SIMULATOR PROMETHEUS REDIS

Only addresses, the intervals and Grafana's variables are replaced. The provider is simulated: its first
key fails often, and its models ask for tools.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml

DEPLOY = pathlib.Path(__file__).resolve().parent.parent
WORKLOAD_SECONDS = 25
PATIENCE = 60

CONFIG = """
[model]
provider = "openai"
name = "gpt-4.1-mini"
base_url = "{weak}/v1"
api_key = "sk-test"
[[model.endpoints]]
base_url = "{good}/v1"
api_key = "sk-test"
[[fallback.models]]
provider = "openai"
name = "gpt-4.1-nano"
base_url = "{good}/v1"
api_key = "sk-test"
[queue]
max_concurrent = 4
capacity = 4
[retry]
attempts = 2
min_seconds = 0
max_seconds = 1
budget = 1.0
[breaker]
open_seconds = 2
[cache]
mode = "all"
shared = true
[redis]
url = "redis://127.0.0.1:{redis}"
[tools]
student = ["calculate", "date_time"]
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Processes:
    """What was started, and is ended with the check."""

    def __init__(self, home):
        self.home, self.all = home, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.all):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.all):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def start(self, name, *command, **more):
        log = open(self.home / f"{name}.log", "wb")
        process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, **more)
        self.all.append(process)
        return process

    def said(self, name):
        return (self.home / f"{name}.log").read_text(errors="replace")

    def url(self, name):
        """The address that a program prints first."""
        for _ in range(300):
            found = re.search(r"http://127\.0\.0\.1:\d+\s*$", self.said(name), re.M)
            if found:
                return found.group(0).strip()
            time.sleep(0.1)
        raise SystemExit(f"panels: {name} did not start:\n{self.said(name)}")


def ask(url, body=None, patience=30):
    """The status and the text of an answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=patience) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(what, reached):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if reached():
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"panels: {what} did not come within {PATIENCE} s")


def workload(server):
    """Turns, streams, discussions, repeated questions, a time of maintenance."""
    end = time.monotonic() + WORKLOAD_SECONDS

    def person(number):
        turn = 0
        while time.monotonic() < end:
            turn += 1
            lesson = {
                "topic": "Gravity",
                "explanation": f"What is up comes down, for the {turn}th time.",
                "session_id": f"p{number}",
            }
            ask(f"{server}/chat", lesson)
            ask(f"{server}/chat/stream", lesson)
            same = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "the same"}]}
            ask(f"{server}/v1/chat/completions", same)
            if number == 0:
                ask(f"{server}/panel", {"topic": "Gravity", "text": "It pulls. It never pushes."})
                for on in (True, False):
                    ask(f"{server}/api/operator/maintenance", {"on": on})
                    ask(f"{server}/chat", lesson)

    with concurrent.futures.ThreadPoolExecutor(12) as people:
        list(people.map(person, range(12)))


def expressions():
    for file in sorted((DEPLOY / "grafana/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield panel["title"], target["expr"]


def main(server_program, simulator, prometheus, redis):
    temporary = tempfile.TemporaryDirectory(prefix="lyceum-panels-")
    home = pathlib.Path(temporary.name)
    with temporary, Processes(home) as processes:
        redis_port, prometheus_port = free_port(), free_port()
        processes.start("redis", redis, "--port", redis_port, "--bind", "127.0.0.1", "--save", "", "--dir", home)
        processes.start("weak", simulator, "serve", "--fault", "500=40%", "--tool-use", "0.3")
        processes.start("good", simulator, "serve", "--tool-use", "0.3", "--first-token", "100ms")
        config = home / "lyceum.toml"
        addresses = {"weak": processes.url("weak"), "good": processes.url("good"), "redis": redis_port}
        config.write_text(CONFIG.format(**addresses))
        processes.start(
            "server", server_program, "serve", "--listen", "127.0.0.1:0", "--config", config,
            "--data-dir", home / "data", "--log-format", "json",
            env={"PATH": os.environ["PATH"], "OLLAMA_HOST": "127.0.0.1:9"},
        )
        server = processes.url("server")
        until("the server", lambda: ask(f"{server}/readyz")[0] == 200)
        scraped = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(DEPLOY / "prometheus/rules/*.yml")],
            "scrape_configs": [
                {"job_name": "lyceum", "static_configs": [{"targets": [server.removeprefix("http://")]}]}
            ],
        }
        (home / "prometheus.yml").write_text(yaml.safe_dump(scraped))
        processes.start(
            "prometheus", prometheus, f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'tsdb'}", f"--web.listen-address=127.0.0.1:{prometheus_port}",
        )
        base = f"http://127.0.0.1:{prometheus_port}"
        until("Prometheus", lambda: ask(f"{base}/-/ready")[0] == 200)
        workload(server)

        def series(expression):
            for variable, value in (("$__rate_interval", "30s"), ("$job", "lyceum"), ("$instance", ".*")):
                expression = expression.replace(variable, value)
            query = urllib.parse.urlencode({"query": expression})
            status, text = ask(f"{base}/api/v1/query?{query}")
            assert status == 200, text
            return json.loads(text)["data"]["result"]

        silent = []
        for title, expression in expressions():
            found = series(expression)
            if not found:
                silent.append(f"{title}: {expression}")
            elif all(value["value"][1] == "NaN" for value in found):
                silent.append(f"{title}: only NaN: {expression}")
        if silent:
            _, scrape = ask(f"{server}/metrics")
            (DEPLOY.parent / "target" / "panels.metrics").write_text(scrape)
            raise SystemExit("panels: no series for\n" + "\n".join(silent))
        print(f"panels: {len(list(expressions()))} expressions have series")


if __name__ == "__main__":
    main(*sys.argv[1:])
