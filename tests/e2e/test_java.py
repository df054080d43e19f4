"""Java functions on a real platform, as root and without rights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.javacode import jar
from tests.running import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ZOO = """
package zoo;

import fuyun.runtime.Context;
import java.io.*;
import java.nio.file.*;
import java.util.*;

public class Zoo {
    private int calls;

    public Object handle(Map<String, Object> event, Context context) throws Exception {
        calls++;
        switch ((String) event.getOrDefault("do", "echo")) {
            case "fail":
                throw new IllegalStateException("no more hay", new IOException("the barn is empty"));
            case "grow":
                List<byte[]> held = new ArrayList<>();
                while (true) {
                    held.add(new byte[1 << 20]);
                }
            case "exit":
                System.exit(7);
                return null;
            case "odd":
                return new Thread();
            case "page":
                return Map.of("statusCode", 201, "headers", Map.of("x-animal", "emu"), "body", "<p>emu</p>");
            case "loaded":
                String loaded = Files.readString(Path.of("/tmp/loaded.txt"));
                return loaded.lines().filter(line -> line.contains("zoo.Zoo ")).toList();
            default:
                System.out.println("call " + calls);
                System.err.print("no newline");
                return Arrays.asList(event.get("value"), calls, context.getFunctionName(), context.getMemoryLimitInMB(),
                    context.getRemainingTimeInMillis() > 0, Runtime.getRuntime().maxMemory() >> 20);
        }
    }

    static void copy(InputStream in, OutputStream out) throws IOException {
        in.transferTo(out);
    }

    static String text(String event) {
        return event.length() + event;
    }

    static byte[] bytes() {
        return new byte[] {0, (byte) 0xff};
    }

    static Object wait(Object event, Map<String, Object> context) throws Exception {
        meeting.await();
        return context.get("functionName");
    }

    private static final java.util.concurrent.CyclicBarrier meeting = new java.util.concurrent.CyclicBarrier(4);
}
"""
SOURCES = {"src/zoo/Zoo.java": ZOO}


def test_events_pages_and_what_is_printed(either_platform: Platform) -> None:
    """[R 19.3] [R 19.4] [R 19.5]"""
    platform = either_platform
    platform.deploy("java-zoo", SOURCES, runtime="java", handler="zoo.Zoo::handle", memory_bytes=256 << 20)
    value = [1, -2.5, "é\\ud83d\\ude00\\n", None, {"deep": [True, 12345678901234567890]}]
    told = platform.invoke("java-zoo", {"value": value})
    assert told.json() == [value, 1, "java-zoo", 256, True, told.json()[5]], told.text
    assert 140 <= told.json()[5] <= 160, "the heap is what the rest leaves"
    page = platform.invoke("java-zoo", {"do": "page"})
    assert page.json()["statusCode"] == 201
    over_http = platform.http.post(platform.url("java-zoo") + "/x", json={"a": 1})
    assert over_http.json()[:2] == [None, 3], over_http.text
    logs = platform.cli("logs", "java-zoo").stdout.decode()
    assert "call 1" in logs
    assert "no newline" in logs
    platform.remove("java-zoo")


def test_what_fails_is_told_apart(either_platform: Platform) -> None:
    """[R 19.6] [R 19.7]"""
    platform = either_platform
    platform.deploy("java-fails", SOURCES, runtime="java", handler="zoo.Zoo", memory_bytes=128 << 20)
    failed = platform.invoke("java-fails", {"do": "fail"}).json()
    assert (failed["code"], failed["error_type"]) == ("function_raised", "java.lang.IllegalStateException")
    assert failed["traceback"][0] == "java.lang.IllegalStateException: no more hay"
    assert failed["traceback"][1].startswith("  at zoo.Zoo.handle(Zoo.java:")
    assert failed["traceback"][2] == "Caused by: java.io.IOException: the barn is empty"
    assert all("fuyun" not in line and "reflect" not in line for line in failed["traceback"])
    odd = platform.invoke("java-fails", {"do": "odd"}).json()
    assert "a result of java.lang.Thread cannot be written as JSON" in odd["detail"]
    grown = platform.invoke("java-fails", {"do": "grow"}).json()
    assert (grown["code"], grown["error_type"]) == ("function_out_of_memory", "java.lang.OutOfMemoryError")
    left = platform.invoke("java-fails", {"do": "exit"}).json()
    assert (left["code"], left["exit_code"]) == ("function_exited", 7)
    assert platform.invoke("java-fails", {"value": 5}).json()[0] == 5, "and the next call is answered"
    wrong = platform.invoke("java-fails", [1]).json()
    assert "the event is [1], the handler takes a Map" in wrong["detail"]
    platform.remove("java-fails")


def test_a_jar_with_every_form_of_handler(platform: Platform, tmp_path: Path) -> None:
    """[R 19.1] [R 19.3] [R 19.4]"""
    plain = ZOO.replace("import fuyun.runtime.Context;", "")
    start, end = plain.index("public Object handle"), plain.index("static void copy")
    files = {"lib/zoo.jar": jar(tmp_path / "made", {"zoo/Zoo.java": plain[:start] + plain[end:]})}
    for name, spec in {
        "java-copy": {"handler": "zoo.Zoo::copy"},
        "java-text": {"handler": "zoo.Zoo::text"},
        "java-bytes": {"handler": "zoo.Zoo::bytes"},
        "java-wait": {"handler": "zoo.Zoo::wait", "concurrency": 4, "max_instances": 1},
    }.items():
        platform.deploy(name, files, runtime="java", **spec)
    assert platform.invoke("java-copy", {"a": [1]}).json() == {"a": [1]}
    assert platform.invoke("java-text", {"a": 1}).json() == '7{"a":1}'
    answer = platform.http.get(platform.url("java-bytes"))
    assert (answer.content, answer.headers["content-type"]) == (b"\0\xff", "application/octet-stream")
    with ThreadPoolExecutor(4) as pool:
        met = [pool.submit(platform.invoke, "java-wait", n) for n in range(4)]
        assert [each.result().json() for each in met] == ["java-wait"] * 4, "four threads of one JVM met"
    for name in ("java-copy", "java-text", "java-bytes", "java-wait"):
        platform.remove(name)


def test_instances_start_from_the_archive_of_their_deployment(either_platform: Platform) -> None:
    """[R 19.2]"""
    platform = either_platform
    logging = {"JAVA_OPTS": "-Xmx64m '-Xlog:class+load:file=/tmp/loaded.txt'"}
    platform.deploy("java-archive", SOURCES, runtime="java", handler="zoo.Zoo", env=logging)
    (line,) = platform.invoke("java-archive", {"do": "loaded"}).json()
    assert "source: shared objects file (top)" in line
    platform.remove("java-archive")


def test_without_isolation(platform: Platform) -> None:
    """[R 19.3]"""
    platform.deploy("java-open", SOURCES, runtime="java", handler="zoo.Zoo", isolation="process")
    assert platform.invoke("java-open", {"value": "in"}).json()[:3] == ["in", 1, "java-open"]
    platform.remove("java-open")


def test_what_cannot_be_deployed_says_why(platform: Platform) -> None:
    """[R 19.1] [R 19.2]"""
    missing = platform.try_deploy("java-none", SOURCES, runtime="java", handler="zoo.Ape::handle").json()
    assert (missing["code"], "there is no class zoo.Ape" in missing["detail"]) == ("function_load_failed", True)
    small = platform.try_deploy("java-none", SOURCES, runtime="java", handler="zoo.Zoo", memory_bytes=64 << 20).json()
    assert "memory_bytes: 64MiB is out of range; use 128MiB" in small["detail"] + "; " + small["hint"]
    named = platform.try_deploy("java-none", SOURCES, runtime="java", handler="zoo/Zoo").json()
    assert "'zoo/Zoo' is not CLASS::METHOD" in named["detail"]
    python = platform.try_deploy("java-none", SOURCES, runtime="java", handler="zoo.Zoo", requirements="six").json()
    assert "they are Python's, the runtime is Java's" in python["detail"]
    loud = ZOO.replace("private int calls;", 'private int calls = Integer.parseInt("many");')
    failed = platform.try_deploy("java-none", {"Zoo.java": loud}, runtime="java", handler="zoo.Zoo").json()
    assert failed["code"] == "function_init_failed", failed
    assert "NumberFormatException" in failed["detail"]


MAIN = """
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

public class Main {
    public static void main(String[] args) throws Exception {
        HttpServer server = HttpServer.create(
            new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))), 0);
        server.createContext("/", exchange -> {
            var options = java.lang.management.ManagementFactory.getRuntimeMXBean().getInputArguments();
            boolean small = options.contains("-XX:+UseSerialGC") && options.contains("-Xmx160m");
            boolean archived = java.nio.file.Files.readString(java.nio.file.Path.of("/tmp/loaded.txt")).lines()
                .anyMatch(line -> line.contains(" Main ") && line.contains("shared objects file (top)"));
            byte[] body = (exchange.getRequestURI() + " " + small + " " + archived).getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}
"""


def test_a_main_class_that_listens_is_a_server(platform: Platform, tmp_path: Path) -> None:
    """[R 19.9] With the options and the archive of a handler; or with a command of its own."""
    files = {"app.jar": jar(tmp_path / "made", {"Main.java": MAIN})}
    logging = {"JAVA_OPTS": "'-Xlog:class+load:file=/tmp/loaded.txt'"}
    spec = {"concurrency": 8, "memory_bytes": 256 << 20, "env": logging}
    platform.deploy("java-web", files, runtime="java", handler="Main::main", **spec)
    assert platform.http.get(platform.url("java-web") + "/a?b=c").text == "/a?b=c true true"
    command = "exec java -XX:+UseSerialGC -Xmx160m -Xlog:class+load:file=/tmp/loaded.txt -cp app.jar Main"
    platform.deploy("java-web", files, runtime="web", command=command, concurrency=8, memory_bytes=256 << 20)
    assert platform.http.get(platform.url("java-web") + "/a?b=c").text == "/a?b=c true false"
    without = platform.try_deploy("java-none", SOURCES, runtime="java", handler="zoo.Zoo::main").json()
    assert "zoo.Zoo has no method public static main(String[])" in without["detail"]
    platform.remove("java-web")


def test_jars_of_layers_are_on_the_class_path(platform: Platform, tmp_path: Path) -> None:
    """[R 19.1]"""
    said = 'package said; public class Word { public static String of(Object e) { return "from a layer: " + e; } }'
    folder = tmp_path / "layer/java/lib"
    folder.mkdir(parents=True)
    (folder / "said.jar").write_bytes(jar(tmp_path / "made", {"said/Word.java": said}))
    assert platform.cli("layer", "publish", "said", str(tmp_path / "layer")).returncode == 0
    asks = """
    public class Asks {
        static Object handle(Object event) throws Exception {
            return Class.forName("said.Word").getMethod("of", Object.class).invoke(null, event);
        }
    }
    """
    platform.deploy("java-layers", {"Asks.java": asks}, runtime="java", handler="Asks", layers=["said"])
    assert platform.invoke("java-layers", 7).json() == "from a layer: 7"
    platform.remove("java-layers")
    assert platform.cli("layer", "delete", "said:1", "--yes").returncode == 0
