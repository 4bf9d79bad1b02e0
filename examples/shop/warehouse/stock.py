"""The stock: a file for each good, in the folder where the command runs."""

import http.server
import pathlib
import signal
import sys


class Stock(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = pathlib.Path(self.path.strip("/")).name
        known = good and not good.endswith(".py") and pathlib.Path(good).is_file()
        body = pathlib.Path(good).read_text().strip().encode() if known else b"nothing"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        print(f"{self.path} looked up", flush=True)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.ThreadingHTTPServer(("", 5000), Stock).serve_forever()
