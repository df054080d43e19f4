package fuyun.runtime;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Loads a handler and answers the invocations that the instance's keeper has for it. */
public final class Bootstrap {
    private static final int FRAMES = 100;

    private Bootstrap() {
    }

    /** `run HANDLER THREADS` serves; `check HANDLER` loads what serving loads, for a class-data-sharing archive. */
    public static void main(String[] args) throws Exception {
        if (args[0].equals("check")) {
            System.exit(check(args[1]));
        }
        String address = System.getenv("AWS_LAMBDA_RUNTIME_API");
        Target target = null;
        try {
            target = Target.find(args[1]);
            target.prepare();
        } catch (Throwable e) {
            new Api(address).fail(null, report(e));
            System.exit(1);
        }
        int threads = Integer.parseInt(args[2]);
        for (int i = 1; i < threads; i++) {
            serveIn(new Api(address), target, i);
        }
        serve(new Api(address), target);
    }

    private static void serveIn(Api api, Target target, int number) {
        Thread thread = new Thread(() -> serve(api, target), "fuyun-" + number);
        thread.setDaemon(true);
        thread.start();
    }

    private static void serve(Api api, Target target) {
        try {
            while (true) {
                answer(api, target, api.next());
            }
        } catch (IOException e) {
            Runtime.getRuntime().halt(70); // the keeper is gone, and the instance with it
        }
    }

    private static void answer(Api api, Target target, Api.Answer asked) throws IOException {
        String id = asked.headers.get("lambda-runtime-aws-request-id");
        try {
            long deadline = Long.parseLong(asked.headers.get("lambda-runtime-deadline-ms"));
            String trace = asked.headers.getOrDefault("lambda-runtime-trace-id", "");
            String credential = asked.headers.getOrDefault("fuyun-credential", "");
            Object result = target.call(asked.body, new Context(id, deadline, trace, credential));
            byte[] body = result instanceof byte[] ? (byte[]) result
                : Json.write(result).getBytes(StandardCharsets.UTF_8);
            System.out.flush();
            api.respond(id, body, "application/json");
        } catch (IOException e) {
            failed(api, id, e);
        } catch (OutOfMemoryError e) {
            System.out.flush();
            failed(api, id, e);
            Runtime.getRuntime().halt(3); // whoever else needed memory may be broken now
        } catch (Throwable e) {
            failed(api, id, e);
        }
    }

    private static void failed(Api api, String id, Throwable thrown) throws IOException {
        System.out.flush();
        api.fail(id, report(thrown));
    }

    /** Load, without running the author's code, all that the first invocation would. Exit status 0, or 65 and why. */
    private static int check(String handler) throws IOException {
        try {
            if (handler.endsWith("::main")) {
                Target.findMain(handler.substring(0, handler.length() - "::main".length()));
                return 0;
            }
            Target.find(handler);
        } catch (Target.Missing e) {
            System.out.println("error: " + e.getMessage());
            return 65;
        } catch (LinkageError e) {
            System.out.println("error: the handler's class cannot be loaded: " + e);
            return 65;
        }
        byte[] answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".getBytes(StandardCharsets.ISO_8859_1);
        Api.Answer read = Api.read(new ByteArrayInputStream(answer));
        Map<String, Object> event = new LinkedHashMap<>();
        event.put("read", Json.parse(new String(read.body, StandardCharsets.UTF_8)));
        event.put("numbers", Json.parse("[1, 1.5, true, null, \"a\\n\"]"));
        report(new IllegalStateException(Json.write(event)));
        try {
            new Api("127.0.0.1:1").next();
        } catch (IOException e) {
            return 0; // nobody listens there: the classes of sockets are loaded now
        }
        return 0;
    }

    /** An error report of the Runtime API, with the frames of the author's code. */
    private static String report(Throwable thrown) {
        Map<String, Object> report = new LinkedHashMap<>();
        boolean missing = thrown instanceof Target.Missing;
        report.put("errorType", missing ? "HandlerMissing" : thrown.getClass().getName());
        report.put("errorMessage", thrown.getMessage() == null ? "" : thrown.getMessage());
        List<Object> lines = new ArrayList<>();
        Throwable cause = missing ? null : thrown;
        for (int depth = 0; cause != null && depth < 8; depth++, cause = cause.getCause()) {
            lines.add((depth == 0 ? "" : "Caused by: ") + cause);
            StackTraceElement[] frames = cause.getStackTrace();
            int last = frames.length;
            while (last > 0 && ours(frames[last - 1].getClassName())) {
                last--;
            }
            for (int i = 0; i < Math.min(last, FRAMES); i++) {
                StackTraceElement frame = frames[i];
                String place = frame.getFileName() == null ? "" : frame.getFileName() + ":" + frame.getLineNumber();
                lines.add("  at " + frame.getClassName() + "." + frame.getMethodName() + "(" + place + ")");
            }
        }
        report.put("stackTrace", lines);
        return Json.write(report);
    }

    private static boolean ours(String name) {
        return name.startsWith("fuyun.runtime.") || name.startsWith("java.lang.reflect.")
            || name.startsWith("jdk.internal.reflect.") || name.equals("java.lang.Thread")
            || name.equals("java.lang.Class");
    }
}
