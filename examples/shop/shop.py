"""The shop: asks the stock by the name of its Service, and says which of its own pods answered."""

import http.server
import os
import signal
import sys
import urllib.request


class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/healthz":
            return self.answer(200, "ok")
        try:
            with urllib.request.urlopen(os.environ["STOCK"] + self.path, timeout=5) as stock:
                self.answer(200, f"{os.uname().nodename} sells {stock.read().decode()}")
        except OSError as error:
            self.answer(502, f"the stock does not answer: {error}")

    def answer(self, status, text):
        body = (text + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        if self.path != "/healthz":
            print(f"{self.path} asked by {self.client_address[0]}", flush=True)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("", 8080), Shop).serve_forever()
