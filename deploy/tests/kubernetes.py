"""Checks rendered manifests for what no schema knows: whether the parts of it fit together.

usage: kubernetes.py FILE...    each with all resources of one overlay; routes come from the sources
"""

import pathlib
import re
import sys
import tomllib

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SECRET_KEYS = {
    "store-url", "redis-url", "keys.toml", "openai-api-key", "anthropic-api-key",
    "postgres-password", "redis-conf", "backup-url",
}


def check(condition, what):
    if not condition:
        raise SystemExit(f"{FILE}: {what}")


def pods(resource):
    """The template of a workload's pods, else None."""
    spec = resource.get("spec", {})
    if resource["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec.get("template")


def selects(selector, labels):
    return all(labels.get(name) == value for name, value in selector.items())


def routes():
    """What the gateway answers without a key."""
    source = (ROOT / "crates/gateway/src/routes.rs").read_text()
    return set(re.findall(r'"(/[a-z]*)"', source[: source.index("];")]))


def seconds_of(command):
    return int(command[-1])


def check_workload(resource, by_name):
    name = f"{resource['kind']} {resource['metadata']['name']}"
    template = pods(resource)
    labels, spec = template["metadata"]["labels"], template["spec"]
    if resource["kind"] != "CronJob":
        check(selects(resource["spec"]["selector"]["matchLabels"], labels), f"{name} selects other pods")
    check(spec.get("automountServiceAccountToken") is False, f"{name} mounts a token it does not need")
    security = spec["securityContext"]
    check(security.get("runAsNonRoot") and security["runAsUser"] > 0, f"{name} may run as root")
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in resource["spec"].get("volumeClaimTemplates", [])}
    for volume in spec.get("volumes", []):
        for kind, field in (("configMap", "name"), ("persistentVolumeClaim", "claimName")):
            if kind in volume:
                wanted = {"configMap": "ConfigMap", "persistentVolumeClaim": "PersistentVolumeClaim"}[kind]
                check((wanted, volume[kind][field]) in by_name, f"{name} has no {wanted} {volume[kind][field]}")
        for item in volume.get("secret", {}).get("items", []):
            check(item["key"] in SECRET_KEYS, f"{name}: secret.example.yaml does not name {item['key']}")
    mounted = set()
    for container in spec.get("initContainers", []) + spec["containers"]:
        what = f"{name}, {container['name']}"
        check(re.search(r":[0-9]", container["image"]), f"{what}: the image has no version")
        own = container["securityContext"]
        check(own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"], f"{what} may write or rise")
        check(own["capabilities"]["drop"] == ["ALL"], f"{what} keeps capabilities")
        for bound in ("requests", "limits"):
            check({"cpu", "memory"} <= set(container["resources"][bound]), f"{what} has no {bound}")
        for mount in container.get("volumeMounts", []):
            check(mount["name"] in volumes, f"{what} mounts {mount['name']}, which is nowhere")
            mounted.add(mount["name"])
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            if reference:
                check(reference["key"] in SECRET_KEYS, f"secret.example.yaml does not name {reference['key']}")
                check(reference["name"] == "lyceum", f"{what} reads another secret")
            else:
                low = variable["name"].lower()
                secret = any(word in low for word in ("password", "key", "token"))
                check(not secret or low.endswith("_file"), f"{what}: {variable['name']} is written down")
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container.get(probe, {})
            got = asked.get("httpGet") or asked.get("tcpSocket")
            if got:
                check(got["port"] in ports, f"{what}: {probe} asks the port {got['port']}")
            if "httpGet" in asked:
                check(got["path"] in routes(), f"{what}: the server has no open {got['path']}")
    check(mounted == volumes, f"{name} has volumes that nobody mounts: {volumes - mounted}")


def check_server(resource, by_name):
    spec = resource["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    # preStop, then the drain, then running requests: all within the grace.
    config = next(v["configMap"]["name"] for v in spec["volumes"] if "configMap" in v)
    server = tomllib.loads(by_name[("ConfigMap", config)]["data"]["lyceum.toml"])
    pre = seconds_of(container["lifecycle"]["preStop"]["exec"]["command"])
    needed = pre + server["server"]["drain_seconds"] + server["server"]["stop_timeout_seconds"]
    grace = spec["terminationGracePeriodSeconds"]
    check(needed < grace, f"{needed} s of stopping do not fit into {grace} s")
    ready = container["readinessProbe"]
    out = ready["periodSeconds"] * ready.get("failureThreshold", 3)
    check(pre + server["server"]["drain_seconds"] >= out, f"a pod stops before {out} s of readiness tell")
    check(server["server"]["listen"].endswith(f":{container['ports'][0]['containerPort']}"), "another port")
    check(server["queue"]["shared"] == "redis", "replicas do not share the quota")
    variables = {variable["name"] for variable in container["env"]}
    check({"LYCEUM_STORE__URL", "LYCEUM_REDIS__URL"} <= variables, "an address is missing")
    check("auth" not in server, "keys are in the ConfigMap")
    command = " ".join(sum((c.get("command", []) for c in spec["initContainers"]), []))
    check("keys.toml" in command, "nobody adds the keys: the server would not listen")
    most = 1
    for (kind, _), other in by_name.items():
        if kind == "HorizontalPodAutoscaler":
            most = other["spec"]["maxReplicas"]
            target = other["spec"]["scaleTargetRef"]
            check((target["kind"], target["name"]) in by_name, "the autoscaler scales nothing")
            check(other["spec"]["minReplicas"] == resource["spec"]["replicas"], "two numbers of replicas")
    surge = resource["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    pool = (most + surge) * server["store"]["max_connections"]
    check(pool < 100, f"{pool} connections are more than PostgreSQL has")


def check_service(resource, workloads):
    name = f"Service {resource['metadata']['name']}"
    selector = resource["spec"]["selector"]
    chosen = [w for w in workloads if selects(selector, pods(w)["metadata"]["labels"])]
    check(len(chosen) == 1, f"{name} selects {len(chosen)} workloads")
    ports = {p["name"] for c in pods(chosen[0])["spec"]["containers"] for p in c.get("ports", [])}
    for port in resource["spec"]["ports"]:
        check(port["targetPort"] in ports, f"{name} goes to the port {port['targetPort']}")


def check_others(by_name, workloads):
    labels = [pods(w)["metadata"]["labels"] for w in workloads]
    for (kind, name), resource in by_name.items():
        spec = resource.get("spec", {})
        if kind == "PodDisruptionBudget":
            check(any(selects(spec["selector"]["matchLabels"], l) for l in labels), f"{kind} {name} is for nobody")
            replicas = by_name[("Deployment", "lyceum")]["spec"]["replicas"]
            check(spec["minAvailable"] < replicas, f"{kind} {name} lets no machine be emptied")
        if kind == "NetworkPolicy":
            chosen = [w for w, l in zip(workloads, labels) if selects(spec["podSelector"]["matchLabels"], l)]
            check(len(chosen) == 1, f"{kind} {name} is for {len(chosen)} workloads")
            ports = {p["name"] for c in pods(chosen[0])["spec"]["containers"] for p in c.get("ports", [])}
            for rule in spec["ingress"]:
                for port in rule["ports"]:
                    check(port["port"] in ports, f"{kind} {name} opens {port['port']}")
                for peer in rule.get("from", []):
                    check(any(selects(peer["podSelector"]["matchLabels"], l) for l in labels), f"{name}: from nobody")
        if kind == "Ingress":
            for rule in spec["rules"]:
                for path in rule["http"]["paths"]:
                    service = path["backend"]["service"]
                    ports = [p["name"] for p in by_name[("Service", service["name"])]["spec"]["ports"]]
                    check(service["port"]["name"] in ports, f"{kind} {name} goes to {service}")


FILE = ""
for FILE in sys.argv[1:]:
    resources = [r for r in yaml.safe_load_all(pathlib.Path(FILE).read_text()) if r]
    by_name = {(r["kind"], r["metadata"]["name"]): r for r in resources}
    check(len(by_name) == len(resources), "a resource is there twice")
    workloads = [r for r in resources if pods(r)]
    for workload in workloads:
        check_workload(workload, by_name)
    check_server(by_name[("Deployment", "lyceum")], by_name)
    for resource in resources:
        if resource["kind"] == "Service":
            check_service(resource, workloads)
    headless = by_name[("Service", "lyceum-pods")]["spec"]
    check(headless["clusterIP"] == "None", "the pods' service is not headless")
    check_others(by_name, workloads)
    print(f"{pathlib.Path(FILE).name}: {len(resources)} resources fit together")
