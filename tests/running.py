"""A real platform for tests: `fuyun up` as a process of its own, on free ports, in folders of its own."""

from __future__ import annotations

import compileall
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests import launching, leaks
from tests.waiting import wait_until

NOBODY = 65534
SOURCE = Path(__file__).resolve().parent.parent / "src"
_ENTRY = "import sys; from fuyun.cli.main import main; sys.exit(main())"


#: Beginnings of the names of control groups that this session's platforms and hosts use.
trees = {f"fuyun-rig-{os.getpid()}", f"fuyun-build-{os.getpid()}"}


@dataclass
class Account:
    """Who runs a platform: the interpreter, what to run it with, and the uid (None: whoever runs the tests)."""

    python: str
    env: dict[str, str]
    uid: int | None = None


def own_account() -> Account:
    """The account that runs the tests, with the project's own environment."""
    # A tree put first on purpose (`tests/e2e/test_compiled.py`) is what its processes run as well.
    tree = os.environ.get("PYTHONPATH")
    return Account(python=sys.executable, env={"PYTHONPATH": tree} if tree else {})


def nobody_account(site: Path) -> Account:
    """An account without any right, on the system's interpreter and the copied packages in `site`."""
    python = shutil.which("python3.11", path="/usr/bin:/usr/local/bin") or "/usr/bin/python3"
    return Account(python=python, env={"PYTHONPATH": str(site), "PATH": f"{site}/bin:/usr/bin:/bin"}, uid=NOBODY)


def copy_site(target: Path) -> None:
    """Copy Fuyun, what it needs at run time and pytest to `target`, readable by everyone (/root is usually not)."""
    todo, seen = ["fuyun", "pytest", "wasmtime"], set[str]()
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a requirement for another platform or Python
        needed = [text for text in found.requires or () if "extra ==" not in text]
        todo += [re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0] for text in needed]
        for file in found.files or () if name != "fuyun" else ():
            place = Path(str(file.locate()))
            inside = str(file) if not str(file).startswith("..") else f"bin/{place.name}"
            if place.is_file() and not inside.endswith(".pth"):
                (target / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(place, target / inside)
                _copy_bytecode(place, target / inside)
    shutil.copytree(SOURCE / "fuyun", target / "fuyun")
    compileall.compile_dir(target, quiet=2, workers=0)  # the account cannot write bytecode there itself
    for folder, _, names in os.walk(target):
        os.chmod(folder, 0o755)
        for name in names:
            path = Path(folder) / name
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _copy_bytecode(source: Path, target: Path) -> None:
    """What is compiled already need not be compiled again: copies keep the times that bytecode is checked against."""
    if source.suffix == ".py":
        made = Path(importlib.util.cache_from_source(str(source)))
        if made.is_file():
            (target.parent / "__pycache__").mkdir(exist_ok=True)
            shutil.copy2(made, importlib.util.cache_from_source(str(target)))


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """A zip of `files` with the same bytes for the same content; scripts (#!) and programs are executable."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            content = files[name]
            content = content.encode() if isinstance(content, str) else content
            info.external_attr = (0o100755 if content.startswith((b"#!", b"\x7fELF")) else 0o100644) << 16
            packed.writestr(info, content)
    return out.getvalue()


@dataclass
class Platform:
    """A running platform and its operator's key."""

    root: Path
    account: Account
    process: launching.Process | subprocess.Popen[bytes]
    api: str = ""
    gateway: str = ""
    s3: str = ""
    key: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    http: httpx.Client = field(init=False)

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.root / "data"

    @property
    def env(self) -> dict[str, str]:
        """The environment its own command line runs in."""
        return environment(self.root, self.account, self.settings)

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until it answers, and read where and with which key."""
        config = self.root / "home/config/fuyun/config.yaml"

        def ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"fuyun up ended with {self.process.returncode}:\n{self.log_tail()}")
            with suppress(OSError, httpx.HTTPError, yaml.YAMLError, TypeError, KeyError):
                found = yaml.safe_load(config.read_text())
                self.api, self.gateway, self.key = found["api"], found["gateway"], found["key"]
                self.s3 = json.loads((self.data / "platform.json").read_text())["s3"]
                ready = httpx.get(f"{self.api}/readyz", trust_env=False, verify=False).status_code == 200
                return ready and bool(self.s3)
            return False

        try:
            wait_until(ready, "fuyun up to become ready", timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log_tail()}") from None
        # No kept connections: a test that leaves a descriptor open is told so. Here and everywhere `verify=False`: to
        # read the host's certificates, which nothing here needs, takes each client 20 ms of processor.
        self.http = httpx.Client(
            headers={"authorization": f"Bearer {self.key}"},
            trust_env=False,
            verify=False,
            timeout=60.0,
            limits=httpx.Limits(max_keepalive_connections=0),
            event_hooks={"response": [self._explain]},
        )

    def _explain(self, answer: httpx.Response) -> None:
        """Show what the platform logged when it failed itself, for whoever reads the report of a test."""
        if answer.status_code == 500 and b'"code":"internal"' in answer.read():
            print(self.log_tail())

    def log_tail(self) -> str:
        """The last lines of its log."""
        with suppress(OSError):
            return (self.root / "up.log").read_text(errors="replace")[-4000:]
        return ""

    def cli(self, *arguments: str, stdin: bytes = b"", timeout_s: float = 60.0) -> subprocess.CompletedProcess[bytes]:
        """Run a `fuyun` command as its operator."""
        return launching.run(_launcher(self.account), arguments, self.env, self.root, stdin, timeout_s)

    def begin_cli(self, *arguments: str) -> subprocess.Popen[str]:
        """The same, without waiting for its end; what it prints can be read as it comes."""
        return subprocess.Popen(
            [self.account.python, "-c", _ENTRY, *arguments],
            env=self.env, cwd=self.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            **_ids(self.account),
        )  # fmt: skip

    def deploy(
        self,
        name: str,
        files: str | Mapping[str, str | bytes],
        *,
        namespace: str = "default",
        requirements: str = "",
        alias: str = "",
        publish: bool = False,
        **spec: Any,
    ) -> dict[str, Any]:
        """Deploy `files` (a text is handler.py) and return the version."""
        answer = self.try_deploy(
            name, files, namespace=namespace, requirements=requirements, alias=alias, publish=publish, **spec
        )
        assert answer.is_success, answer.text
        version: dict[str, Any] = answer.json()
        return version

    def try_deploy(
        self,
        name: str,
        files: str | Mapping[str, str | bytes],
        *,
        namespace: str = "default",
        requirements: str = "",
        alias: str = "",
        publish: bool = False,
        **spec: Any,
    ) -> httpx.Response:
        """Deploy `files` and return whatever the platform answers."""
        base = f"{self.api}/v1/namespaces/{namespace}"
        packed = archive({"handler.py": files} if isinstance(files, str) else files)
        uploaded = self.http.post(f"{base}/archives", content=packed, headers={"content-type": "application/zip"})
        assert uploaded.is_success, uploaded.text
        body = {
            "spec": spec, "code": uploaded.json()["digest"], "requirements": requirements, "alias": alias,
            "publish": publish, "description": "",
        }  # fmt: skip
        return self.http.put(f"{base}/functions/{name}", json=body, timeout=300.0)

    def remove(self, name: str, namespace: str = "default") -> None:
        """Delete the function."""
        answer = self.http.delete(f"{self.api}/v1/namespaces/{namespace}/functions/{name}")
        assert answer.is_success, answer.text

    def invoke(self, name: str, payload: Any = None, qualifier: str = "", namespace: str = "default") -> httpx.Response:
        """Invoke through the API: the handler gets `payload` itself."""
        url = f"{self.api}/v1/namespaces/{namespace}/functions/{name}/invoke"
        return self.http.post(url, json=payload, params={"qualifier": qualifier} if qualifier else {})

    def url(self, name: str, namespace: str = "default") -> str:
        """The function's address at the gateway."""
        return f"{self.gateway}/fn/{namespace}/{name}"

    def status(self) -> dict[str, Any]:
        """`GET /v1/status`."""
        answer = self.http.get(f"{self.api}/v1/status")
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def host(self) -> dict[str, Any]:
        """What its instance host holds: warden, zygotes, blanks, templates, instances, each with its pid."""
        found: dict[str, Any] = self.status()["nodes"][0]["host"]
        return found

    def instances(self) -> list[dict[str, Any]]:
        """Living instances; `version` is `namespace/function@number`."""
        found: list[dict[str, Any]] = self.host()["instances"]
        return found

    def instances_of(self, name: str, namespace: str = "default") -> list[dict[str, Any]]:
        """Living instances of one function."""
        return [one for one in self.instances() if one["version"].startswith(f"{namespace}/{name}@")]

    def kill_instances(self, name: str, most: int | None = None) -> int:
        """SIGKILL to the function's instances; how many were hit: one that is not needed any more may end before."""
        killed = 0
        for one in self.instances_of(name)[:most]:
            with suppress(ProcessLookupError):
                os.kill(one["pid"], signal.SIGKILL)
                killed += 1
        return killed

    def kill(self) -> None:
        """SIGKILL the platform process alone, and reap it."""
        self.process.kill()
        self.process.wait(10)

    def restart(self, timeout_s: float = 30.0) -> None:
        """Start it again on the same folders and ports (after `kill` or `stop`)."""
        port, api_port, s3_port = (address.rpartition(":")[2] for address in (self.gateway, self.api, self.s3))
        self.http.close()
        self.process = _launch(self.root, self.account, self.settings, port, api_port, s3_port)
        self.wait_ready(timeout_s)

    def stop(self, timeout_s: float = 40.0) -> int:
        """Ask it to stop and return its exit code; a platform that will not is killed, and that is an error."""
        with suppress(AttributeError):
            self.http.close()
        below = leaks.descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise RuntimeError(f"fuyun up ignored SIGTERM for {timeout_s:g} s:\n{self.log_tail()}") from None
        wait_until(lambda: not any(leaks.state_of(pid) not in ("", "Z") for pid in below), "its processes to end")
        return code


def environment(root: Path, account: Account, settings: Mapping[str, str]) -> dict[str, str]:
    """A clean environment: own HOME and XDG folders; how packages are found is kept."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_", "LANG"))}
    kept.pop("UV_CACHE_DIR", None)
    kept.pop("PIP_CACHE_DIR", None)
    home = root / "home"
    return {
        **kept,
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_DATA_HOME": str(home / "share"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_RUNTIME_DIR": str(home / "run"),
        **account.env,
        **settings,
    }


def _ids(account: Account) -> dict[str, Any]:
    if account.uid is None or os.getuid() != 0:
        return {}
    return {"user": account.uid, "group": account.uid, "extra_groups": []}


def _launch(
    root: Path, account: Account, settings: Mapping[str, str], port: str, api_port: str, s3_port: str,
    inherits: bool = False,
) -> launching.Process | subprocess.Popen[bytes]:  # fmt: skip
    trees.add(f"fuyun-{hashlib.sha256(str(root / 'data').encode()).hexdigest()[:12]}")
    arguments = ["up", "--data", str(root / "data"), "--port", port, "--api-port", api_port]
    arguments += ["--s3-port", s3_port]
    with (root / "up.log").open("ab") as log, Path(os.devnull).open("rb") as nothing:
        env = environment(root, account, settings)
        if not inherits:
            files = [nothing.fileno(), log.fileno(), log.fileno()]
            return _launcher(account).start(arguments, env, root, files, session=True)
        return subprocess.Popen(
            [account.python, "-c", _ENTRY, *arguments],
            env=env, cwd=root, stdin=nothing, stdout=log, stderr=log, start_new_session=True, **_ids(account),
        )  # fmt: skip


def _launcher(account: Account) -> launching.Launcher:
    """What forks processes of this account."""
    return launching.launcher(account.python, {"PATH": os.environ["PATH"], **account.env}, _ids(account))


@contextmanager
def running(
    account: Account,
    settings: Mapping[str, str] | None = None,
    disk: Callable[[Path], AbstractContextManager[object]] = nullcontext,
    inherits: bool = False,
) -> Iterator[Platform]:
    """A ready platform for the time of the block; its folders and processes are gone afterwards. `disk` may mount
    something at its data directory. One that `inherits` is a child of the test's process as that is now: in its control
    groups, with its limits."""
    root = Path(tempfile.mkdtemp(prefix="fy-", dir="/tmp"))
    try:
        for name in ("data", "home", "home/config", "home/share", "home/state", "home/cache", "home/run"):
            (root / name).mkdir(mode=0o700)
        with disk(root / "data"):
            if account.uid is not None and os.getuid() == 0:
                for place in [root, *root.rglob("*")]:
                    os.chown(place, account.uid, account.uid)
            process = _launch(root, account, settings or {}, "0", "0", "0", inherits)
            platform = Platform(root=root, account=account, process=process, settings=dict(settings or {}))
            try:
                platform.wait_ready()
                yield platform
            finally:
                platform.stop()
    finally:
        shutil.rmtree(root)
