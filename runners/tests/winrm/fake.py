"""A Windows host as far as WinRM shows one: for tests, where no Windows is.

It speaks the five requests of a remote shell, logs in by Basic or NTLM version 2 and seals messages. What it computes
(MD4, RC4, NTLM's keys) is written here from MS-NLMP, apart from the runner's code, and checked against the values that
MS-NLMP publishes (`--self-test`) before anything is served.

Command lines are run by `sh`. PowerShell is not there: a script's text is its output, `exit N` its exit code; the lines
by which long scripts are brought to a host are done. Each request is a line of JSON in the log.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import xml.etree.ElementTree as xml
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAGIC = b"NTLMSSP\0"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
RSP = "{%s}" % SHELL
WSMAN = "{http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd}"
ADDRESSING = "{http://schemas.xmlsoap.org/ws/2004/08/addressing}"


def md4(data):
    mask = 0xFFFFFFFF
    words = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476]
    padded = data + b"\x80" + b"\0" * ((55 - len(data)) % 64) + struct.pack("<Q", len(data) * 8)
    rounds = [
        (lambda x, y, z: (x & y) | (~x & z), 0, range(16), (3, 7, 11, 19)),
        (lambda x, y, z: (x & y) | (x & z) | (y & z), 0x5A827999, [i % 4 * 4 + i // 4 for i in range(16)], (3, 5, 9, 13)),
        (lambda x, y, z: x ^ y ^ z, 0x6ED9EBA1, [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15], (3, 9, 11, 15)),
    ]
    for start in range(0, len(padded), 64):
        block = struct.unpack("<16I", padded[start : start + 64])
        a, b, c, d = words
        for mix, constant, order, shifts in rounds:
            for step, index in enumerate(order):
                total = (a + mix(b, c, d) + block[index] + constant) & mask
                shift = shifts[step % 4]
                a, b, c, d = d, (total << shift | total >> (32 - shift)) & mask, b, c
        words = [(old + new) & mask for old, new in zip(words, (a, b, c, d))]
    return struct.pack("<4I", *words)


class Rc4:
    def __init__(self, key):
        self.box, self.i, self.j = list(range(256)), 0, 0
        j = 0
        for i in range(256):
            j = (j + self.box[i] + key[i % len(key)]) % 256
            self.box[i], self.box[j] = self.box[j], self.box[i]

    def __call__(self, data):
        box, out = self.box, bytearray()
        for byte in data:
            self.i = (self.i + 1) % 256
            self.j = (self.j + box[self.i]) % 256
            box[self.i], box[self.j] = box[self.j], box[self.i]
            out.append(byte ^ box[(box[self.i] + box[self.j]) % 256])
        return bytes(out)


def mac(key, data):
    return hmac.new(key, data, hashlib.md5).digest()


def ntowf(user, domain, password):
    return mac(md4(password.encode("utf-16-le")), (user.upper() + domain).encode("utf-16-le"))


class Direction:
    def __init__(self, key, name):
        magic = "session key to %s %s key magic constant\0"
        self.sign = hashlib.md5(key + (magic % (name, "signing")).encode()).digest()
        self.seal = Rc4(hashlib.md5(key + (magic % (name, "sealing")).encode()).digest())
        self.count = 0

    def signature(self, message):
        number = struct.pack("<I", self.count)
        self.count += 1
        return b"\1\0\0\0" + self.seal(mac(self.sign, number + message)[:8]) + number

    def wrap(self, message):
        sealed = self.seal(message)
        return self.signature(message), sealed

    def unwrap(self, signature, sealed):
        message = self.seal(sealed)
        if self.signature(message) != signature:
            raise ValueError("wrong signature")
        return message


def self_test():
    """The values of MS-NLMP 4.2.4, and two of RFC 1320."""
    assert md4(b"").hex() == "31d6cfe0d16ae931b73c59d7e0c089c0"
    assert md4(b"message digest").hex() == "d9130a8164549fe818874806e1c7014b"
    key = ntowf("User", "Domain", "Password")
    assert key.hex() == "0c868a403bfd7a93a3001ef22ef02e3f"
    pairs = b"".join(struct.pack("<HH", i, 12) + n.encode("utf-16-le") for i, n in ((2, "Domain"), (1, "Server")))
    temp = b"\1\1" + bytes(6) + bytes(8) + b"\xaa" * 8 + bytes(4) + pairs + bytes(8)
    proof = mac(key, bytes.fromhex("0123456789abcdef") + temp)
    assert proof.hex() == "68cd0ab851e51c96aabc927bebef6a1c"
    base = mac(key, proof)
    assert base.hex() == "8de40ccadbc14a82f15cb0ad0de95ca3"
    assert Rc4(base)(b"\x55" * 16).hex() == "c5dad2544fc9799094ce1ce90bc9d03e"
    signature, sealed = Direction(b"\x55" * 16, "client-to-server").wrap("Plaintext".encode("utf-16-le"))
    assert sealed.hex() == "54e50165bf1936dc996020c1811b0f06fb5f"
    assert signature.hex() == "010000007fb38ec5c55d497600000000"


class Login:
    """One connection's NTLM."""

    def __init__(self, options):
        self.options, self.nonce, self.key = options, os.urandom(8), None
        self.messages = []

    def challenge(self, first):
        assert first[:8] == MAGIC and struct.unpack_from("<I", first, 8)[0] == 1
        wanted = struct.unpack_from("<I", first, 12)[0]
        flags = wanted & ~0x40000000 if self.options["no_exchange"] else wanted
        now = int((time.time() + 11644473600) * 10**7)
        pairs = [(2, "DOMAIN".encode("utf-16-le")), (1, "HOST".encode("utf-16-le"))]
        if not self.options["no_time"]:
            pairs.append((7, struct.pack("<Q", now)))
        info = b"".join(struct.pack("<HH", i, len(v)) + v for i, v in pairs) + bytes(4)
        second = MAGIC + struct.pack("<IHHII", 2, 0, 0, 56, flags) + self.nonce + bytes(8)
        second += struct.pack("<HHI", len(info), len(info), 56) + bytes(8) + info
        self.messages = [first, second]
        return second

    def check(self, third):
        """Raises what is wrong; else the connection is logged in."""
        assert third[:8] == MAGIC and struct.unpack_from("<I", third, 8)[0] == 3
        fields = []
        for at in range(12, 60, 8):
            length, _, offset = struct.unpack_from("<HHI", third, at)
            fields.append(third[offset : offset + length])
        _, response, domain, user, _, sent_key = fields
        domain, user = domain.decode("utf-16-le"), user.decode("utf-16-le")
        assert (domain, user) == (self.options["domain"], self.options["user"]), "another account: %s\\%s" % (domain, user)
        key = ntowf(user, domain, self.options["password"])
        proof, temp = response[:16], response[16:]
        assert mac(key, self.nonce + temp) == proof, "wrong proof"
        base = mac(key, proof)
        flags = struct.unpack_from("<I", third, 60)[0]
        self.key = Rc4(base)(sent_key) if flags & 0x40000000 else base
        pairs, at = {}, 28
        while True:
            kind, length = struct.unpack_from("<HH", temp, at)
            if kind == 0:
                break
            pairs[kind] = temp[at + 4 : at + 4 + length]
            at += 4 + length
        if not self.options["no_time"]:
            assert struct.unpack("<I", pairs[6])[0] & 2, "no integrity code announced"
            blank = third[:72] + bytes(16) + third[88:]
            assert mac(self.key, b"".join(self.messages) + blank) == third[72:88], "wrong integrity code"
        if self.options["certificate"]:
            digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(open(self.options["certificate"]).read())).digest()
            bound = b"tls-server-end-point:" + digest
            assert pairs[10] == hashlib.md5(bytes(16) + struct.pack("<I", len(bound)) + bound).digest(), "wrong channel"
        self.receive, self.send = Direction(self.key, "client-to-server"), Direction(self.key, "server-to-client")


class Command:
    def __init__(self, line, shell):
        self.stdout, self.stderr, self.code, self.process = b"", b"", None, None
        self.lock = threading.Condition()
        self.shell = shell
        if line.startswith("powershell "):
            self.powershell(line)
        else:
            environment = dict(os.environ, **shell["environment"])
            self.process = subprocess.Popen(
                ["sh", "-c", line], cwd=shell["cwd"] or "/", env=environment, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, start_new_session=True,
            )
            readers = [threading.Thread(target=self.read, args=(name,)) for name in ("stdout", "stderr")]
            for reader in readers:
                reader.start()
            threading.Thread(target=self.wait, args=(readers,)).start()

    def read(self, name):
        pipe = getattr(self.process, name)
        while data := pipe.read1(65536):
            with self.lock:
                setattr(self, name, getattr(self, name) + data)
                self.lock.notify_all()

    def wait(self, readers):
        for reader in readers:
            reader.join()
        with self.lock:
            self.code = self.process.wait() & 0xFFFFFFFF
            self.lock.notify_all()

    def powershell(self, line):
        self.code = 0
        if found := re.search(r'-file "(.*)"', line):
            script = open(found[1].replace("\\", "/"), "rb").read()
            assert script[:3] == b"\xef\xbb\xbf"
            self.run_script(script[3:].decode())
            return
        script = base64.b64decode(re.fullmatch(r"powershell -encodedcommand (\S+)", line)[1]).decode("utf-16-le")
        if "New-Item -ItemType Directory" in script:
            self.stdout = tempfile.mkdtemp(prefix="winrm").encode()
        elif found := re.search(r"FromBase64String\('(.*?)'\).*Open\('(.*?)', 'Append'\)", script, re.S):
            with open(found[2].replace("\\", "/"), "ab") as file:
                file.write(base64.b64decode(found[1]))
        elif found := re.search(r"Remove-Item .*-LiteralPath '(.*)'", script):
            shutil.rmtree(found[1])
        else:
            self.run_script(script)

    def run_script(self, script):
        self.stdout = script.encode()
        if found := re.search(r"exit (\d+)", script):
            self.code = int(found[1])
        if found := re.search(r"Write-Error (\w+)", script):
            self.stderr = (
                '#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
                '<Obj S="progress" RefId="0"/><S S="Error">%s_x000D__x000A_</S></Objs>' % found[1]
            ).encode()

    def receive(self, seconds):
        with self.lock:
            self.lock.wait_for(lambda: self.stdout or self.stderr or self.code is not None, seconds)
            out, self.stdout, self.stderr = (self.stdout, self.stderr), b"", b""
            return out, self.code

    def end(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, 9)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        # Clients that have gone are not worth a word.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*_)


class Host(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    options, shells, commands = {}, {}, {}
    login = None

    def log_message(self, *_):
        pass

    def note(self, **event):
        with open(self.options["log"], "a") as log:
            log.write(json.dumps(event) + "\n")

    def reply(self, status, body=b"", headers=(), kind="application/soap+xml;charset=UTF-8"):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, reason):
        self.note(refused=reason)
        offers = ["Basic realm=\"WSMAN\""] if self.options["auth"] == "basic" else self.options["auth"].split(",")
        self.reply(401, headers=[("WWW-Authenticate", offer) for offer in offers])

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path != "/wsman":
            return self.reply(404)
        scheme, _, token = (self.headers["Authorization"] or "").partition(" ")
        if self.options["auth"] == "basic":
            account = "%s:%s" % (self.options["user"], self.options["password"])
            if scheme != "Basic" or base64.b64decode(token).decode() != account:
                return self.refuse("wrong password")
            return self.reply(*self.answer(body))
        if scheme:
            return self.log_in(scheme, base64.b64decode(token))
        if not (self.login and self.login.key):
            return self.refuse("not logged in")
        if self.options["certificate"]:
            return self.reply(*self.answer(body))
        kind = self.headers["Content-Type"]
        if not kind.startswith('multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted"'):
            self.note(refused="not sealed")
            return self.reply(403)
        head, payload = body.split(b"application/octet-stream\r\n", 1)
        length = int(re.search(rb"OriginalContent: type=application/soap\+xml;charset=UTF-8;Length=(\d+)", head)[1])
        assert struct.unpack_from("<I", payload)[0] == 16
        text = self.login.receive.unwrap(payload[4:20], payload[20 : 20 + length])
        assert payload[20 + length :] == b"--Encrypted Boundary--\r\n"
        status, answer = self.answer(text)
        signature, sealed = self.login.send.wrap(answer)
        part = "--Encrypted Boundary\r\nContent-Type: "
        sealed = (
            part + "application/HTTP-SPNEGO-session-encrypted\r\nOriginalContent: type=application/soap+xml;"
            "charset=UTF-8;Length=%d\r\n" % len(answer) + part + "application/octet-stream\r\n"
        ).encode() + struct.pack("<I", 16) + signature + sealed + b"--Encrypted Boundary--\r\n"
        self.reply(status, sealed, kind='multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";'
                   'boundary="Encrypted Boundary"')

    def log_in(self, scheme, token):
        if scheme not in self.options["auth"].split(","):
            return self.refuse("scheme " + scheme)
        if token[8] == 1:
            self.login = Login(self.options)
            second = base64.b64encode(self.login.challenge(token)).decode()
            return self.reply(401, headers=[("WWW-Authenticate", "%s %s" % (scheme, second))])
        try:
            self.login.check(token)
        except (AssertionError, KeyError) as error:
            self.login = None
            return self.refuse(str(error))
        self.note(logged_in=scheme)
        self.reply(200)

    def fault(self, code, text):
        return 500, (
            '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Code><s:Value>s:Receiver'
            "</s:Value></s:Code><s:Reason><s:Text xml:lang=\"en-US\">%s</s:Text></s:Reason><s:Detail><f:WSManFault "
            'xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="%s" Machine="h"><f:Message>%s</f:Message>'
            "</f:WSManFault></s:Detail></s:Fault></s:Body></s:Envelope>" % (text, code, text)
        ).encode()

    def envelope(self, action, body):
        return 200, (
            '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
            'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:rsp="%s" '
            'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"><s:Header><a:Action>%sResponse</a:Action></s:Header>'
            "<s:Body>%s</s:Body></s:Envelope>" % (SHELL, action, body)
        ).encode()

    def answer(self, text):
        request = xml.fromstring(text)
        action = request.findtext(".//" + ADDRESSING + "Action")
        name = action.rsplit("/", 1)[1]
        options = {option.get("Name"): option.text for option in request.iter(WSMAN + "Option")}
        assert request.findtext(".//" + WSMAN + "ResourceURI") == SHELL + "/cmd"
        selected = request.findtext(".//" + WSMAN + "Selector")
        if name == "Create":
            shell = str(uuid.uuid4()).upper()
            self.shells[shell] = {
                "cwd": request.findtext(".//" + RSP + "WorkingDirectory"),
                "environment": {v.get("Name"): v.text or "" for v in request.iter(RSP + "Variable")},
            }
            self.note(action=name, options=options, **self.shells[shell])
            return self.envelope(action, '<rsp:Shell><rsp:ShellId>%s</rsp:ShellId></rsp:Shell>' % shell)
        shell = self.shells.get(selected)
        if shell is None:
            return self.fault(2150858843, "no such shell")
        if name == "Command":
            line = request.findtext(".//" + RSP + "Command")
            command = str(uuid.uuid4()).upper()
            self.note(action=name, options=options, line=line)
            self.commands[command] = Command(line, shell)
            return self.envelope(action, "<rsp:CommandResponse><rsp:CommandId>%s</rsp:CommandId></rsp:CommandResponse>" % command)
        if name == "Receive":
            command = request.find(".//" + RSP + "DesiredStream").get("CommandId")
            return self.receive(action, command)
        if name == "Signal":
            signal = request.find(".//" + RSP + "Signal")
            self.commands.pop(signal.get("CommandId")).end()
            self.note(action=name, code=signal.findtext(RSP + "Code"))
            return self.envelope(action, "<rsp:SignalResponse/>")
        assert name == "Delete", name
        del self.shells[selected]
        # A command whose answer nobody heard ends with its shell.
        for key, command in list(self.commands.items()):
            if command.shell is shell:
                self.commands.pop(key).end()
        self.note(action=name, shells=len(self.shells), commands=len(self.commands))
        return self.envelope(action, "")

    def receive(self, action, command):
        # A real host waits as long as the request says; this one shows sooner what it then answers.
        out, code = self.commands[command].receive(0.3)
        if not any(out) and code is None:
            return self.fault(2150858793, "The WS-Management service cannot complete the operation within the time.")
        streams = "".join(
            '<rsp:Stream Name="%s" CommandId="%s">%s</rsp:Stream>' % (name, command, base64.b64encode(data).decode())
            for name, data in zip(("stdout", "stderr"), out) if data
        )
        state = "Running/" if code is None else "Done"
        exit_code = "" if code is None else "<rsp:ExitCode>%d</rsp:ExitCode>" % code
        return self.envelope(
            action, '<rsp:ReceiveResponse>%s<rsp:CommandState CommandId="%s" State="%s/CommandState/%s">%s'
            "</rsp:CommandState></rsp:ReceiveResponse>" % (streams, command, SHELL, state, exit_code),
        )


def main():
    self_test()
    if sys.argv[1:] == ["--self-test"]:
        return
    Host.options = {"auth": "Negotiate", "domain": "", "certificate": None, "no_time": False, "no_exchange": False}
    Host.options.update(json.loads(sys.argv[1]))
    server = Server(("127.0.0.1", 0), Host)
    if Host.options["certificate"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Host.options["certificate"], Host.options["key"])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(server.server_port, flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    server.serve_forever()


main()
