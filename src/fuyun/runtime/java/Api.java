package fuyun.runtime;

import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;

/** A connection to the Lambda Runtime API, version 2018-06-01, which the instance's keeper serves on its loopback. */
final class Api {
    private static final String ROOT = "/2018-06-01/runtime/";

    /** An answer: its status, headers in lower case, and body. */
    static final class Answer {
        int status;
        final Map<String, String> headers = new HashMap<>();
        byte[] body = new byte[0];
    }

    private final String address;
    private InputStream in;
    private OutputStream out;

    Api(String address) throws IOException {
        this.address = address;
        int colon = address.lastIndexOf(':');
        byte[] host = new byte[4];
        String[] parts = address.substring(0, colon).split("\\.");
        for (int i = 0; i < 4; i++) {
            host[i] = (byte) Integer.parseInt(parts[i]);
        }
        Socket socket = new Socket(InetAddress.getByAddress(host), Integer.parseInt(address.substring(colon + 1)));
        socket.setTcpNoDelay(true);
        in = new BufferedInputStream(socket.getInputStream());
        out = socket.getOutputStream();
    }

    /** The next invocation; waits for it. */
    Answer next() throws IOException {
        return ask("GET", "invocation/next", "", new byte[0]);
    }

    void respond(String id, byte[] body, String type) throws IOException {
        ask("POST", "invocation/" + id + "/response", "Content-Type: " + type + "\r\n", body);
    }

    /** Report that an invocation failed, or the start when `id` is null. */
    void fail(String id, String report) throws IOException {
        String path = id == null ? "init/error" : "invocation/" + id + "/error";
        ask("POST", path, "Content-Type: application/json\r\n", report.getBytes(StandardCharsets.UTF_8));
    }

    private Answer ask(String method, String path, String headers, byte[] body) throws IOException {
        byte[] head = request(method, path, headers, body.length);
        byte[] whole = new byte[head.length + body.length];
        System.arraycopy(head, 0, whole, 0, head.length);
        System.arraycopy(body, 0, whole, head.length, body.length);
        out.write(whole);
        out.flush();
        Answer answer = read(in);
        while (answer.status < 200) {
            answer = read(in);
        }
        return answer;
    }

    private byte[] request(String method, String path, String headers, int length) {
        String text = method + " " + ROOT + path + " HTTP/1.1\r\nHost: " + address + "\r\n" + headers
            + "Content-Length: " + length + "\r\n\r\n";
        return text.getBytes(StandardCharsets.ISO_8859_1);
    }

    /** An answer with its length in the head, as the keeper writes them. */
    static Answer read(InputStream in) throws IOException {
        Answer answer = new Answer();
        answer.status = Integer.parseInt(line(in).split(" ", 3)[1]);
        for (String line = line(in); !line.isEmpty(); line = line(in)) {
            int colon = line.indexOf(':');
            answer.headers.put(line.substring(0, colon).toLowerCase(Locale.ROOT), line.substring(colon + 1).trim());
        }
        int length = Integer.parseInt(answer.headers.getOrDefault("content-length", "0"));
        answer.body = in.readNBytes(length);
        if (answer.body.length < length) {
            throw new EOFException("the answer ended early");
        }
        return answer;
    }

    private static String line(InputStream in) throws IOException {
        StringBuilder text = new StringBuilder(64);
        for (int c = in.read(); c != '\n'; c = in.read()) {
            if (c < 0) {
                throw new EOFException("the connection was closed");
            }
            if (c != '\r') {
                text.append((char) c);
            }
        }
        return text.toString();
    }
}
