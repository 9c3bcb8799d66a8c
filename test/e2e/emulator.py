"""The Gemini-shaped emulator as a child process; its log is the ground truth of the tests."""

import http.client
import json
import pathlib
import subprocess
import tempfile

from sparky_server import TREE, build_lock, wait_for

PROGRAM = TREE / 'test/emulator/emulator'


class Emulator:
    """Ends when this process ends, since it watches its standard input; but not one that shall outlive it."""

    def __init__(self, latency_ms=20, key=None, tls=False, answer=None, outlive=False):
        self.directory = tempfile.TemporaryDirectory(prefix='sparky-emulator.')
        directory = pathlib.Path(self.directory.name)
        directory.chmod(0o755)          # the server's user reads ca.pem
        with build_lock():
            done = subprocess.run(['make', '-s', '-C', PROGRAM.parent, 'emulator'], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError('the emulator does not build:\n' + done.stdout + done.stderr)
        command = [PROGRAM, '--port', '0', '--log', directory / 'log', '--latency-ms', str(latency_ms)]
        if not outlive:
            command.append('--die-with-stdin')
        if key:
            command += ['--key', key]
        if answer:
            command += ['--answer', str(answer)]
        self.tls_ca = self.other_ca = None
        if tls:
            subprocess.run([PROGRAM.parent / 'make-certs', directory / 'tls'], check=True)
            (directory / 'tls').chmod(0o755)
            self.tls_ca, self.other_ca = directory / 'tls/ca.pem', directory / 'tls/other-ca.pem'
            command += ['--tls-cert', directory / 'tls/cert.pem', '--tls-key', directory / 'tls/key.pem']
        self.tls = tls
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=outlive)
        self.port = int(self.process.stdout.readline().split()[1])
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.stdout.close()
        self.directory.cleanup()

    def keep(self):
        """Leave it running after this process (made with outlive); its directory, which the caller removes."""
        self.directory._finalizer.detach()
        return self.directory.name

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def control(self, name, body=None):
        if self.tls:
            import ssl
            context = ssl.create_default_context(cafile=self.tls_ca)
            connection = http.client.HTTPSConnection('127.0.0.1', self.port, timeout=20, context=context)
        else:
            connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=20)
        try:
            connection.request('GET' if body is None else 'POST', '/_control/' + name, None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode()
            assert response.status == 200, text
            return text if name == 'log' else json.loads(text)
        finally:
            connection.close()

    def script(self, *rules):
        """Rules {fault, times, match, …}; the first that matches decides a call. times: 1 unless told, 0 = for ever."""
        return self.control('script', list(rules))

    def latency(self, ms):
        self.control('latency', {'ms': ms})

    def answer(self, answer):
        """'picture' (a real transformation), 'tiny' (a small picture, cheap) or a number of bytes."""
        self.control('answer', {'answer': answer})

    def hold(self):
        """From now on calls are received and logged, and answered only after release()."""
        self.control('hold', {})

    def release(self):
        self.control('release', {})

    def reset(self):
        self.control('reset', {})

    def stats(self):
        return self.control('stats')

    def log(self):
        """Everything since the last reset."""
        return [json.loads(line) for line in self.control('log').splitlines()]

    def calls(self, **wanted):
        """The received calls since the last reset, filtered by fields of the log."""
        return [event for event in self.log() if event['event'] == 'received' and all(event.get(k) == v for k, v in wanted.items())]

    def wait_calls(self, number, seconds=10):
        wait_for(lambda: self.stats()['received'] >= number, seconds, f'{number} calls at the emulator')

    def wait_idle(self, seconds=10):
        wait_for(lambda: self.stats()['in_flight'] == 0, seconds, 'the emulator to be idle')
