"""Starts replicas again under load, kills Redis and starts PostgreSQL again: nothing is lost.

usage: rolling.py SERVER SIMULATOR TRAEFIK [--streams N] [--people N] [--keep-logs FOLDER]

The cluster is the one of deploy-ha.sh --local: three replicas, PostgreSQL, Redis and Traefik with
the real files. N streams (200) are open all the time; their clients leave and come back at some
other replica. N people (260) ask beside them, each again when the answer is there: at most some 250
requests a second, as many as the machine can. Every promise is a line of output; the first
that is broken ends with 1.
"""

import argparse
import asyncio
import collections
import hashlib
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

DEPLOY = pathlib.Path(__file__).resolve().parent.parent
USERS = 20
END = '"[END_OF_STREAM]"'

# What the simulated model answers: for streams some 20 s of words, for people as little as goes.
REASON = "It is not said how " + " ".join(f"thing {n} works" for n in range(20))
GAP = {"kind": "missing_mechanism", "quote": "turn light into sugar", "reason": REASON}
QUESTION = 'Why do plants "turn light into sugar", given ' + ", ".join(f"case {n}" for n in range(12))
SCRIPT = [
    {
        "system": "Find what is missing",
        "user": "SLOWLY",
        "text": json.dumps({"gaps": [{**GAP, "severity": "high"}]}),
    },
    {
        "system": "numbered line",
        "user": "SLOWLY",
        "text": "\n".join(f"{n}. {QUESTION} and {n}?" for n in (1, 2, 3)),
    },
    {"user": "AT LENGTH", "text": " ".join(f"word {n}" for n in range(25))},
    {"system": "Find what is missing", "text": '{"gaps":[]}'},
]


class Connection:
    """A connection of HTTP/1.1 to the balancer, opened when it is needed and kept."""

    def __init__(self, port, key):
        self.port, self.key = port, key
        self.reader = self.writer = None

    async def begin(self, method, path, body=None, headers=()):
        """Sends a request; gives the status and the headers of its answer."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: lyceum", f"Content-Length: {len(data)}"]
        lines += [f"Authorization: Bearer {self.key}", "Content-Type: application/json"]
        lines += [f"{name}: {value}" for name, value in headers]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = [line.split(": ", 1) for line in head[1:] if ": " in line]
        self.headers = {name.lower(): value for name, value in fields}
        return int(head[0].split()[1]), self.headers

    async def pieces(self):
        """What the answer says, as it comes; an answer that is cut off is an OSError."""
        try:
            if "content-length" in self.headers:
                yield await self.reader.readexactly(int(self.headers["content-length"]))
                return
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                yield (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the answer is cut off") from error

    async def ask(self, method, path, body=None, headers=()):
        """The status and the whole answer to a request."""
        try:
            async with asyncio.timeout(120):
                status, _ = await self.begin(method, path, body, headers)
                text = b"".join([piece async for piece in self.pieces()]).decode()
            if self.headers.get("connection") == "close":
                self.close()
            return status, text
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            return 0, repr(error)
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.writer is not None:
            self.writer.transport.abort()
        self.reader = self.writer = None


def events(text):
    """The events of a text, and what of it is not whole yet."""
    *blocks, rest = text.split("\n\n")
    found = []
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "data" in fields:
            found.append((fields.get("id"), fields.get("event"), fields["data"]))
    return found, rest


class Load:
    """People and streams, until they are told to stop."""

    def __init__(self, port, keys, people, streams):
        self.port, self.keys = port, keys
        self.count, self.failed = collections.Counter(), []
        # Whether the balancer may say for a while that there is nobody to answer.
        self.may_refuse = False
        self.accepted = []
        self.open = 0
        self.stop = asyncio.Event()
        kinds = [self.taught] * 2 + [self.completed] * 3 + [self.looked]
        tasks = [kinds[n % len(kinds)](n) for n in range(people)]
        tasks += [self.streamed(n) for n in range(streams)]
        self.tasks = [asyncio.create_task(task) for task in tasks]
        self.streams = streams

    def key(self, number):
        return self.keys[number % len(self.keys)]

    def fail(self, what):
        self.count["failed"] += 1
        self.failed.append(f"{time.strftime('%T', time.gmtime())} {what}"[:400])

    def judge(self, status, what, text):
        """Whether a request was answered; one that was not is a failure."""
        if status == 200:
            self.count["requests"] += 1
            return True
        if self.may_refuse and status == 503:
            self.count["refused"] += 1
        else:
            self.fail(f"{what}: {status} {text}")
        return False

    async def taught(self, number):
        connection = Connection(self.port, self.key(number))
        for turn in range(1_000_000):
            if self.stop.is_set():
                return
            session = f"person-{number}-{turn}"
            body = {"topic": "light", "session_id": session, "short_term_memory": []}
            body["explanation"] = "Plants turn light into sugar."
            status, text = await connection.ask("POST", "/chat", body)
            if self.judge(status, f"/chat {session}", text):
                answer = json.loads(text)
                if answer["session_id"] != session:
                    self.fail(f"/chat {session}: the answer is of {answer['session_id']}")
                if "conversation_not_saved" not in answer.get("degraded", []):
                    self.accepted.append((number, session))
            await asyncio.sleep(1)

    async def completed(self, number):
        connection = Connection(self.port, self.key(number))
        mark = f"m{number:05}"
        message = {"role": "user", "content": f"{mark} grow?"}
        body = {"model": "sim", "messages": [message], "max_tokens": 50}
        while not self.stop.is_set():
            status, text = await connection.ask("POST", "/v1/chat/completions", body)
            if self.judge(status, "/v1/chat/completions", text) and mark not in text:
                self.fail(f"/v1/chat/completions {mark}: {text}")
            await asyncio.sleep(0.1)

    async def looked(self, number):
        connection = Connection(self.port, self.key(number))
        while not self.stop.is_set():
            for path in ("/info", "/v1/models", "/livez"):
                self.judge(*(await connection.ask("GET", path))[:1], path, "")
                await asyncio.sleep(0.3)

    async def streamed(self, number):
        """One stream after the other; who leaves at times and comes back."""
        choice = random.Random(number)
        await asyncio.sleep(choice.uniform(0, 10))
        turn = 0
        while not self.stop.is_set():
            turn += 1
            body = {"topic": "light", "session_id": f"stream-{number}-{turn}", "durable": True}
            if number % 4 == 0:
                body["text"], path = "AT LENGTH: plants turn light into sugar.", "/panel/stream"
            else:
                body["explanation"], path = "SLOWLY: plants turn light into sugar.", "/chat/stream"
            await self.one_stream(choice, self.key(number), path, body)

    async def one_stream(self, choice, key, path, body):
        connection, name = Connection(self.port, key), f"{path} {body['session_id']}"
        try:
            status, headers = await asyncio.wait_for(connection.begin("POST", path, body), 120)
            if status != 200:
                text = b"".join([piece async for piece in connection.pieces()])
                self.judge(status, name, text.decode())
                return await asyncio.sleep(1)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.fail(f"{name}: {error!r}")
            return await asyncio.sleep(1)
        finally:
            if connection.writer is not None and "content-location" not in connection.headers:
                connection.close()
        self.count["requests"] += 1
        place, told = headers["content-location"], []
        self.open += 1
        try:
            # A client that never gives up learns the end.
            async with asyncio.timeout(300):
                while not await self.hear(choice, connection, told):
                    connection.close()
                    await asyncio.sleep(choice.choice((0, 0, 0.3, 1)))
                    await self.come_back(connection, name, place, told)
        except TimeoutError:
            self.fail(f"{name} {place}: no end after {told[-3:]}")
            return
        finally:
            self.open -= 1
            connection.close()
        self.count["streams"] += 1
        if [event[0] for event in told] != [str(n + 1) for n in range(len(told))]:
            self.fail(f"{name} {place}: the numbers are {[event[0] for event in told]}")
        if not any(event[1] == "result" for event in told):
            self.fail(f"{name} {place}: it ends with {told[-2:]}")
        while True:
            status, text = await Connection(self.port, key).ask("GET", place)
            if self.judge(status, f"{name} {place} again", text):
                break
            if not self.may_refuse:
                return
            await asyncio.sleep(1)
        if events(text)[0] != told:
            self.fail(f"{name} {place}: told again it is {text}, and was {told}")

    async def hear(self, choice, connection, told):
        """Reads until the end, or until this client leaves; whether it was the end."""
        text = ""
        stays = choice.choice((0, 0.05, 1, 3, 8, None, None))
        try:
            async with asyncio.timeout(stays):
                async for piece in connection.pieces():
                    found, text = events(text + piece.decode())
                    # What has no number says that the server lost it for now.
                    told += [event for event in found if event[0] is not None]
                    if told and told[-1][2] == END:
                        return True
        except (OSError, TimeoutError):
            pass
        return False

    async def come_back(self, connection, name, place, told):
        last = [("Last-Event-ID", told[-1][0])] if told else []
        while True:
            try:
                status, _ = await connection.begin("GET", place, None, last)
            except (OSError, asyncio.IncompleteReadError) as error:
                status = repr(error)
            if status == 200:
                self.count["comings back"] += 1
                return
            self.judge(status, f"{name} {place} after {len(told)}", "")
            connection.close()
            await asyncio.sleep(0.5)

    async def ends(self):
        self.stop.set()
        await asyncio.gather(*self.tasks)

    async def is_lost(self):
        """Which of the turns that were accepted are not there."""
        lost = []
        for number, session in self.accepted:
            path = f"/sessions/{session}/knowledge"
            status, text = await Connection(self.port, self.key(number)).ask("GET", path)
            if status != 200:
                lost.append(f"{session}: {status} {text}")
        return lost


class Cluster:
    """The kit's own cluster, with a simulated model."""

    def __init__(self, server, simulator, traefik):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="lyceum-rolling-", dir="/var/tmp"))
        # Nobody's PostgreSQL passes through.
        self.home.chmod(0o711)
        self.port = free_block()
        self.state = self.home / "ha"
        self.environment = {
            **os.environ,
            "KIT_STATE": str(self.state),
            "LYCEUM": server,
            "TRAEFIK": traefik,
            "OPENAI_API_KEY": "any",
            "LYCEUM_MODEL__BASE_URL": f"http://127.0.0.1:{self.port + 20}/v1",
            # The provider's quota is not what is tried here.
            "LYCEUM_QUEUE__REQUESTS_PER_MINUTE": "1000000",
            "LYCEUM_QUEUE__MAX_CONCURRENT": "5000",
            "LYCEUM_LOG__FORMAT": "json",
        }
        self.keys = [f"lyc-{number:064x}" for number in range(USERS)]
        secrets = self.state / "secrets"
        secrets.mkdir(parents=True)
        with (secrets / "keys.toml").open("w") as file:
            for number, key in enumerate(self.keys):
                digest = hashlib.sha256(key.encode()).hexdigest()
                name = f"learner-{number}"
                file.write(f'\n[[auth.keys]]\nname = "{name}"\ntenant = "school"\n')
                file.write(f'user = "{name}"\nsha256 = "{digest}"\n')
        script = self.home / "script.json"
        script.write_text(json.dumps(SCRIPT))
        command = [simulator, "serve", "--listen", f"127.0.0.1:{self.port + 20}"]
        command += ["--per-token", "100ms", "--first-token", "200ms", "--script", str(script)]
        self.simulator = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.deploy("--port", str(self.port), "--", "--provider", "openai", "--model", "sim")
        routes = self.state / "traefik/dynamic.yml"
        text = routes.read_text()
        for old, new in {"average: 20\n": "average: 9000\n", "burst: 100\n": "burst: 9000\n"}.items():
            assert old in text, f"dynamic.yml has no {old}"
            text = text.replace(old, new)
        routes.write_text(text)
        # More than the former limit lets through at once.
        while 429 in {self.looks() for _ in range(200)}:
            time.sleep(0.5)

    def looks(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/livez")
        status = connection.getresponse().status
        connection.close()
        return status

    def deploy(self, *arguments):
        script = DEPLOY / "scripts/deploy-ha.sh"
        command = [str(script), "--local", "--no-check", *arguments]
        run(command, self.environment)

    def kit(self, script):
        """Runs functions of the kit's own scripts."""
        files = [DEPLOY / "scripts/common.sh", DEPLOY / "scripts/local.sh"]
        files.append(self.state / "run/ports")
        sourced = "".join(f"source '{file}'; " for file in files)
        run(["bash", "-c", sourced + script], self.environment)

    def stop(self, keep):
        try:
            self.deploy("--down")
        finally:
            self.simulator.send_signal(signal.SIGTERM)
            self.simulator.wait()
            if keep:
                shutil.copytree(self.state / "logs", keep, dirs_exist_ok=True)
            shutil.rmtree(self.home, ignore_errors=True)


def run(command, environment):
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, f"{command} says:\n{done.stdout.decode()}"


def free_block():
    """The first of thirty ports that nobody holds now."""
    while True:
        first = random.randrange(10_000, 30_000)
        try:
            for port in range(first, first + 30):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port))
            return first
        except OSError:
            pass


class Tests:
    """The promises, one after the other under one load."""

    def __init__(self, cluster, load):
        self.cluster, self.load = cluster, load

    async def promise_replicas_are_started_again_and_nobody_notices(self):
        await asyncio.to_thread(self.cluster.deploy, "--roll")
        await self.goes_on()

    async def promise_redis_is_killed_and_nobody_notices(self):
        await asyncio.to_thread(self.cluster.kit, "local_stop redis KILL")
        await self.goes_on()
        await asyncio.to_thread(self.cluster.kit, "local_redis")
        await self.goes_on()

    async def promise_postgres_is_started_again_and_what_was_accepted_is_there(self):
        self.load.may_refuse = True
        await asyncio.to_thread(self.cluster.kit, "local_stop postgres INT; local_postgres")
        await self.goes_on()
        await self.answered()
        self.load.may_refuse = False
        await self.goes_on()

    async def promise_every_stream_ends_and_no_turn_is_lost(self):
        await self.load.ends()
        assert self.load.count["comings back"] > self.load.streams, self.load.count
        lost = await self.load.is_lost()
        assert self.load.accepted and not lost, lost[:10]

    async def goes_on(self):
        """Until as many streams as there are have ended and begun again."""
        wanted = self.load.count["streams"] + self.load.streams
        while self.load.count["streams"] < wanted:
            self.check()
            await asyncio.sleep(0.5)

    async def answered(self):
        """Until nobody was refused for five seconds."""
        before = None
        while before != self.load.count["refused"]:
            before = self.load.count["refused"]
            await asyncio.sleep(5)

    def check(self):
        failed = self.load.failed
        assert not failed, "\n".join([f"{len(failed)} failures:", *failed[:20]])

    async def run(self):
        while self.load.open < self.load.streams:
            self.check()
            await asyncio.sleep(0.5)
        for name in [name for name in vars(Tests) if name.startswith("promise_")]:
            began, before = time.monotonic(), self.load.count.copy()
            await getattr(self, name)()
            self.check()
            took = time.monotonic() - began
            since = self.load.count - before
            rate = since["requests"] / took
            what = name.removeprefix("promise_").replace("_", " ")
            print(f"rolling: {what} ({took:.0f} s, {rate:.0f} requests/s, {dict(since)})", flush=True)


async def drive(cluster, arguments):
    load = Load(cluster.port, cluster.keys, arguments.people, arguments.streams)
    try:
        await Tests(cluster, load).run()
    finally:
        for task in load.tasks:
            task.cancel()
        await asyncio.gather(*load.tasks, return_exceptions=True)


def main():
    arguments = argparse.ArgumentParser()
    for program in ("server", "simulator", "traefik"):
        arguments.add_argument(program)
    arguments.add_argument("--streams", type=int, default=200)
    arguments.add_argument("--people", type=int, default=260)
    arguments.add_argument("--keep-logs")
    arguments = arguments.parse_args()
    cluster = Cluster(arguments.server, arguments.simulator, arguments.traefik)
    try:
        asyncio.run(drive(cluster, arguments))
    except AssertionError as error:
        sys.exit(f"rolling: {error}")
    finally:
        cluster.stop(arguments.keep_logs)


if __name__ == "__main__":
    main()
