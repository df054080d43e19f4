"""An ordinary HTTP server on $PORT; nothing in it knows about Fuyun."""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = urlsplit(self.path)
        name = parse_qs(asked.query).get("name", ["world"])[0]
        self.answer({"status": "ok"} if asked.path == "/healthz" else {"message": f"Hello, {name}!"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.answer({"received": json.loads(body or b"null")})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    request_queue_size = 128


def main():
    server = Server(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Handler)
    # Fuyun sends SIGTERM before it stops an instance, and waits for it to end.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
