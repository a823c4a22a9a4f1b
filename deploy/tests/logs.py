"""Checks the log pipeline without Elasticsearch: the pipeline parses, the JSON files fit together, and
setup.sh, run for real, asks a stub Elasticsearch and Kibana for what it should.

usage: logs.py
"""

import http.server
import json
import os
import pathlib
import subprocess
import tempfile
import threading

from logstash_pipeline_parser import Pipeline

LOGS = pathlib.Path(__file__).resolve().parent.parent / "logs"


def pipeline():
    tree = Pipeline((LOGS / "logstash.conf").read_text()).parse()
    sections = [section[0] for section in tree]
    assert sections == ["input", "filter", "output"], sections
    print("logs: the pipeline has its three sections")


def indices():
    policy = json.loads((LOGS / "elasticsearch/ilm.json").read_text())["policy"]["phases"]
    assert policy["delete"]["min_age"] == "30d", policy
    patterns = {}
    for file in (LOGS / "elasticsearch").glob("app*.json"):
        template = json.loads(file.read_text())
        (pattern,) = template["index_patterns"]
        patterns[pattern] = template["priority"]
        lifecycle = template["template"]["settings"]["index"]["lifecycle"]["name"]
        assert lifecycle == "lyceum-30-days", file
    assert set(patterns) == {"app-*", "app-errors-*", "app-performance-*"}, patterns
    # app-* covers the other two, whose templates must win.
    assert patterns["app-*"] < min(patterns["app-errors-*"], patterns["app-performance-*"]), patterns
    written = (LOGS / "logstash.conf").read_text()
    for pattern in patterns:
        assert f'"{pattern.removesuffix("-*")}"' in written, f"nothing is written to {pattern}"
    print("logs: three kinds of indices, thirty days")


def views():
    objects = [json.loads(line) for line in (LOGS / "kibana/lyceum.ndjson").read_text().splitlines()]
    known = {(one["type"], one["id"]) for one in objects}
    assert len(known) == len(objects) >= 10, len(known)
    fields = json.loads((LOGS / "elasticsearch/app-performance.json").read_text())
    fields = set(fields["template"]["mappings"]["properties"])
    for one in objects:
        for reference in one["references"]:
            assert (reference["type"], reference["id"]) in known, f"{one['id']} names {reference['id']}"
        attributes = one["attributes"]
        for name in ("visState", "panelsJSON", "optionsJSON", "uiStateJSON"):
            if name in attributes:
                json.loads(attributes[name])
        if "visState" in attributes:
            for part in json.loads(attributes["visState"])["aggs"]:
                field = part["params"].get("field", "@timestamp")
                assert field in fields, f"{one['id']} asks for {field}"
        if one["type"] == "dashboard":
            names = {reference["name"].split(":")[1] for reference in one["references"]}
            panels = {panel["panelRefName"] for panel in json.loads(attributes["panelsJSON"])}
            assert names == panels, (names, panels)
    print(f"logs: {len(objects)} saved objects name only each other")


class Stub(http.server.BaseHTTPRequestHandler):
    """Takes everything, as Elasticsearch and Kibana would."""

    asked = []
    refuse = None

    def log_message(self, *_):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        Stub.asked.append((self.command, self.path, self.headers, body))
        refused = Stub.refuse and Stub.refuse in self.path
        said = b'{"error":"no"}' if refused else b'{"acknowledged":true,"success":true}'
        self.send_response(403 if refused else 200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_PUT = do_POST = answer


def setup():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    with tempfile.TemporaryDirectory() as secrets:
        names = ("elastic_password", "kibana_password", "logstash_password", "elastic_monitor_password")
        for name in names:
            (pathlib.Path(secrets) / name).write_text("pw-" + name)
        environment = dict(
            os.environ, ELASTICSEARCH_URL=address, KIBANA_URL=address, SECRETS_DIR=secrets, KIBANA_SECONDS="5"
        )
        command = ["bash", str(LOGS / "setup.sh")]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        said = {(method, path) for method, path, _, _ in Stub.asked}
        for path in (
            "/_ilm/policy/lyceum-30-days",
            "/_index_template/app",
            "/_index_template/app-errors",
            "/_index_template/app-performance",
            "/_security/role/lyceum_logstash",
            "/_security/user/lyceum_logstash",
            "/_security/user/lyceum_monitor",
            "/_security/user/kibana_system/_password",
        ):
            assert ("PUT", path) in said, f"{path} was not set: {said}"
        for method, path, headers, body in Stub.asked:
            assert headers["Authorization"].startswith("Basic "), path
            if method == "PUT":
                json.loads(body)
        assert not any("pw-" in line for line in (run.stdout, run.stderr)), "a password is printed"
        Stub.refuse = "_index_template/app-errors"
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert run.returncode == 1 and "answers 403" in run.stderr, (run.returncode, run.stderr)
    server.shutdown()
    print("logs: setup.sh sets what it should, and stops where it is refused")


pipeline()
indices()
views()
setup()
