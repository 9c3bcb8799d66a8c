"""A private PostgreSQL server with sparky in it, for tests, the demo and benchmarks.

Rules:
- Nothing of the system is touched: test/lib/pgroot copies the PostgreSQL
  installation and installs this tree's sparky into the copy.  The copy is made
  once per process (or taken from SPARKY_PGROOT, so that a run of all suites
  makes it once); every Server has its own data directory and its own port, so
  runs side by side do not meet.
- Everything lies under one mktemp directory, readable by user postgres (a
  PostgreSQL server refuses to run as root), and goes away at exit.
- A process that we end is ended by its pid, read from the server itself.
"""

import atexit
import contextlib
import fcntl
import json
import os
import re
import pathlib
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import psycopg2
import psycopg2.extras

from postgrest_call import Function, Session, statement

TREE = pathlib.Path(__file__).resolve().parents[2]
AS_ROOT = os.geteuid() == 0
psycopg2.extras.register_uuid()


# ------------------------------------------------------------ the private root

class Root:
    """The private copy of PostgreSQL; one per process."""

    _one = None
    _lock = threading.Lock()

    @classmethod
    def get(cls):
        with cls._lock:
            if cls._one is None:
                cls._one = cls()
            return cls._one

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix='sparky-test.'))
        os.chmod(self.dir, 0o755)
        self.servers = []
        self._owner = os.getpid()
        atexit.register(self.close)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if threading.current_thread() is threading.main_thread() and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, lambda n, _: sys.exit(128 + n))
        given = os.environ.get('SPARKY_PGROOT')
        if given:
            self.bin = pathlib.Path(given)
        else:
            with build_lock():
                done = subprocess.run([TREE / 'test/lib/pgroot', self.dir / 'pg'], capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError('test/lib/pgroot failed:\n' + done.stdout + done.stderr)
            self.bin = pathlib.Path(done.stdout.strip().splitlines()[-1])

    def keep(self):
        """Leave the servers and the directory behind at exit."""
        self._owner = None

    def close(self):
        if os.getpid() != self._owner:
            return                  # kept, or a forked child: the directory is its parent's
        for server in list(self.servers):
            with contextlib.suppress(Exception):
                server.destroy()
        shutil.rmtree(self.dir, ignore_errors=True)


@contextlib.contextmanager
def build_lock():
    """Two runs in one tree must not run make at once."""
    with open(TREE / 'Makefile') as makefile:
        fcntl.flock(makefile, fcntl.LOCK_EX)
        yield


_reservations = []


def free_port():
    """A port that stays free until we listen on it, and while a server of ours is down between two starts: below those that the
    kernel gives to outgoing connections, and reserved against other runs by a name that goes with this process."""
    first = int(pathlib.Path('/proc/sys/net/ipv4/ip_local_port_range').read_text().split()[0])
    for port in random.SystemRandom().sample(range(first // 3, first), 200):
        reservation = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError), socket.socket() as probe:
            reservation.bind(f'\0sparky-test-port-{port}')
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(('127.0.0.1', port))
            _reservations.append(reservation)
            return port
        reservation.close()
    raise RuntimeError('no free port')


def wait_for(condition, seconds=20, what='condition', pause=0.02):
    """The first true value of condition(), or AssertionError after the given time; it is asked once more after that time has passed."""
    end = time.monotonic() + seconds
    while True:
        late = time.monotonic() > end
        value = condition()
        if value:
            return value
        if late:
            raise AssertionError(f'not within {seconds} s: {what}')
        time.sleep(pause)


def command_line(pid):
    """The arguments of a process; nothing of one that has ended."""
    try:
        return pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b''


def process_alive(pid):
    """False also for a zombie that nobody has reaped yet."""
    try:
        with open(f'/proc/{pid}/stat') as f:
            return f.read().rpartition(')')[2].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


def process_memory(pid):
    """Resident private memory in bytes (shared buffers that a process touched are not its own)."""
    total = 0
    with open(f'/proc/{pid}/status') as f:
        for line in f:
            if line.startswith('RssAnon:'):
                total = int(line.split()[1]) * 1024
    return total


def process_descriptors(pid):
    """Descriptors of a process that are no files: sockets, pipes, epoll (PostgreSQL keeps table files open as it likes)."""
    links = []
    for name in os.listdir(f'/proc/{pid}/fd'):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f'/proc/{pid}/fd/{name}'))
    return sum(not link.startswith('/') for link in links)


# ------------------------------------------------------------------- the server

class Server:
    """One data directory and its postmaster."""

    def __init__(self, conf=(), environment=None, preload='sparky', emulator=None, start=True, extension=True, key='test-key-Zq8',
                 superuser='postgres', prepare=None, storage=None):
        """superuser: the name of the cluster's own one (on Supabase postgres is not he). prepare(server): called when it runs, before the extension comes.
        storage: 'supabase' puts the photos behind a Storage API; SPARKY_STORAGE says so for every server that has an emulator."""
        self.root = Root.get()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix='server.', dir=self.root.dir))
        self.data = self.dir / 'data'
        self.log_file = self.dir / 'log'
        self.port = free_port()
        self.user = superuser
        self.database = 'postgres'
        # who writes auth.users, and what he fills in beside id and address
        self.auth_user, self.account_columns = None, {}
        self.environment = dict(environment or {})
        self.storage = None
        if storage is None and emulator is not None and start and extension:
            storage = os.environ.get('SPARKY_STORAGE')
        if storage == 'supabase':
            from storage_control import SERVICE_KEY
            self.environment.setdefault('STORAGE_SERVICE_KEY', SERVICE_KEY)
        self._kept = threading.local()
        if key is not None:
            self.environment.setdefault('GEMINI_API_KEY', key)
        if AS_ROOT:
            shutil.chown(self.dir, 'postgres', 'postgres')
        self.root.servers.append(self)
        done = self.run('initdb', '-D', self.data, '-U', self.user, '-A', 'trust', '-N', '--locale=C.UTF-8', '-E', 'UTF8')
        if done.returncode != 0:
            raise RuntimeError('initdb failed:\n' + done.stdout + done.stderr)
        lines = [f'port = {self.port}', "listen_addresses = '127.0.0.1'", f"unix_socket_directories = '{self.dir}'",
                 'fsync = off', 'wal_level = logical', 'shared_buffers = 64MB', 'max_connections = 200', 'max_worker_processes = 20',
                 "log_line_prefix = '%m [%p] %b %d '", 'max_wal_size = 2GB',
                 f"shared_preload_libraries = '{preload}'"]
        if emulator is not None:
            lines.append(f"sparky.gemini_base_url = '{emulator.url}'")
        self.configure(*lines, *conf)
        if start:
            self.start()
            if storage == 'supabase':
                from storage_control import start_storage
                start_storage(self)
            if prepare:
                prepare(self)
            if extension:
                self.install()

    def configure(self, *lines):
        """Append lines to the conf file (the last of a name counts)."""
        with open(self.data / 'postgresql.conf', 'a') as f:
            f.write(''.join(line + '\n' for line in lines))

    def install(self, db='postgres'):
        """CREATE EXTENSION, the PostgREST login role, and a worker that serves the database."""
        self.psql('CREATE EXTENSION IF NOT EXISTS sparky', db=db)
        self.psql("DO $$ BEGIN IF to_regrole('authenticator') IS NULL THEN CREATE ROLE authenticator NOINHERIT LOGIN; END IF; END $$;"
                  'GRANT anon, authenticated, service_role TO authenticator', db=db)
        self.worker_pid(db)

    # -- programs

    def bin(self, name):
        """A program of this server's PostgreSQL."""
        return str(self.root.bin / name)

    def run(self, program, *arguments, environment=None, **options):
        """Run a program of the private root (or any other by its path) as the server's user, aimed at the server."""
        path = self.bin(program) if '/' not in str(program) else str(program)
        env = {'PATH': os.environ.get('PATH', '/usr/bin:/bin'), 'LANG': 'C.UTF-8', 'HOME': str(self.dir),
               'PGHOST': str(self.dir), 'PGPORT': str(self.port), 'PGUSER': self.user, 'PGDATABASE': self.database}
        env.update(environment or {})
        command = [path, *map(str, arguments)]
        if AS_ROOT:
            command = ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups', *command]
        options.setdefault('cwd', self.dir)
        if 'stdout' not in options:
            options.setdefault('capture_output', True)
        options.setdefault('text', True)
        return subprocess.run(command, env=env, **options)

    def start(self, wait=True):
        # pg_ctl's own output goes to a file: a pipe would be held open by the postmaster
        with open(self.dir / 'pg_ctl.log', 'a') as out:
            done = self.run('pg_ctl', '-D', self.data, '-l', self.log_file, '-t', '60', '-w' if wait else '-W', 'start',
                            environment=self.environment, stdout=out, stderr=out)
        if done.returncode != 0:
            raise RuntimeError('the server did not start:\n' + self.log()[-4000:])

    def stop(self, mode='fast', seconds=60):
        self.run('pg_ctl', '-D', self.data, '-m', mode, '-w', '-t', str(seconds), 'stop')

    def restart(self, mode='fast'):
        self.stop(mode)
        self.start()

    def reload(self, *lines):
        """Append conf lines and wait until every process can have seen them."""
        self.configure(*lines)
        before = self.value('SELECT pg_conf_load_time()')
        self.value('SELECT pg_reload_conf()')
        wait_for(lambda: self.value('SELECT pg_conf_load_time()') > before, what='reload')
        time.sleep(0.2)

    def postmaster_pid(self):
        with open(self.data / 'postmaster.pid') as f:
            return int(f.readline())

    def running(self):
        try:
            return process_alive(self.postmaster_pid())
        except FileNotFoundError:
            return False

    def children(self):
        """Pids of the postmaster's living children."""
        parent = self.postmaster_pid()
        with open(f'/proc/{parent}/task/{parent}/children') as f:
            return [int(p) for p in f.read().split()]

    def kill_postmaster(self):
        """kill -9; returns when all its children have gone."""
        pid, children = self.postmaster_pid(), self.children()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not process_alive(pid) and not any(map(process_alive, children)), 30, 'the children of a killed postmaster')
        # where nobody reaps orphans (a container without an init), the dead pid still answers to kill(pid, 0)
        for lock in (self.data / 'postmaster.pid', self.dir / f'.s.PGSQL.{self.port}.lock'):
            lock.unlink(missing_ok=True)

    def crash(self, pid):
        """kill -9 of one process; PostgreSQL then ends every session and begins anew, so a bystander's end tells that it has noticed."""
        bystander = self.connect()
        sessions = [pid, bystander.info.backend_pid]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(map(process_alive, sessions)), 30, 'the crash to be noticed')
        bystander.close()
        self.wait_ready()

    def destroy(self):
        if self in self.root.servers:
            self.root.servers.remove(self)
        if self.storage is not None:
            self.storage.close()
        if self.running():
            for child in self.children():       # a stopped process would not hear the end
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGCONT)
            self.stop('immediate')
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.destroy()

    def log(self):
        try:
            return self.log_file.read_text(errors='replace')
        except FileNotFoundError:
            return ''

    # -- SQL

    def connect(self, db=None, user=None, autocommit=True, **options):
        """A connection; one to a server that is just coming back from a crash waits for it."""
        end = time.monotonic() + 20
        while True:
            try:
                connection = psycopg2.connect(host=str(self.dir), port=self.port, dbname=db or self.database, user=user or self.user,
                                              application_name='test', **options)
                break
            except psycopg2.OperationalError as error:
                if not re.search('in recovery mode|starting up|not yet accepting', str(error)) or time.monotonic() > end:
                    raise
                time.sleep(0.05)
        connection.autocommit = autocommit
        return connection

    def query(self, sql, parameters=None, db=None, user=None):
        """All rows of one statement, by itself in its transaction."""
        kept = (db or self.database) == self.database == 'postgres' and user in (None, self.user)
        connection = self._kept_connection() if kept else self.connect(db, user)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            if not kept:
                connection.close()

    def _kept_connection(self):
        """One for each thread that looks into the main database; a new one when the server has ended the last."""
        connection = getattr(self._kept, 'connection', None)
        if connection is not None and not connection.closed:
            if not select.select([connection.fileno()], [], [], 0)[0]:      # an idle session has nothing to say but its end
                return connection
            connection.close()
        self._kept.connection = connection = self.connect()
        return connection

    def row(self, sql, parameters=None, **where):
        rows = self.query(sql, parameters, **where)
        return rows[0] if rows else None

    def value(self, sql, parameters=None, **where):
        row = self.row(sql, parameters, **where)
        return row[0] if row else None

    def psql(self, sql, db=None, user=None, check=True):
        """A script of several statements; its plain output."""
        done = self.run('psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', db or self.database, '-U', user or self.user, '-f', '-', input=sql)
        if check and done.returncode != 0:
            raise AssertionError(f'psql failed:\n{sql}\n{done.stdout}{done.stderr}')
        return done.stdout.strip() if check else done

    # -- sparky's own processes

    def process(self, backend_type, db=None):
        sql = 'SELECT pid FROM pg_stat_activity WHERE backend_type = %s'
        try:
            if db is None:
                return self.value(sql, (backend_type,))
            return self.value(sql + ' AND datname = %s', (backend_type, db))
        except psycopg2.OperationalError:
            return None             # the server is coming up again

    def worker_pid(self, db='postgres', seconds=30):
        """The pid of the database's worker, waiting until it serves."""
        return wait_for(lambda: self.process('sparky worker', db), seconds, f'a worker in {db}')

    def launcher_pid(self, seconds=30):
        return wait_for(lambda: self.process('sparky launcher'), seconds, 'the launcher')

    def wait_ready(self, seconds=30):
        """After a crash: until sessions are let in again."""
        def ready():
            try:
                self.connect().close()          # a new session: an old one may not have heard of the crash yet
                return True
            except psycopg2.Error:
                return False
        return wait_for(ready, seconds, 'the server to accept sessions')

    # -- people

    def sign_up(self, email=None, credits=None, plan=None, db=None, **columns):
        """A row in auth.users, as an auth server writes it; returns the user's id."""
        user = uuid.uuid4()
        email = email or f'{user.hex[:12]}@example.com'
        columns = {**self.account_columns, **columns}
        names = ['id', 'email', *columns]
        self.query(f"INSERT INTO auth.users ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))})",
                   (user, email, *columns.values()), db=db, user=self.auth_user)
        if credits is not None:
            self.query('UPDATE public.users SET credits = %s WHERE id = %s', (credits, user), db=db)
        if plan is not None:
            self.query('UPDATE public.users SET plan_id = %s WHERE id = %s', (plan, user), db=db)
        return user

    def client(self, user=None, db=None, role=None):
        return Client(self, user, db, role)

    def call_as(self, user, sql, parameters=None, db=None, **options):
        """One statement of one signed-in request; all rows."""
        with Client(self, user, db) as client:
            return client.call(sql, parameters, **options)


# ----------------------------------------------- a client, the way PostgREST is

class Refused(AssertionError):
    """An error of ours as an HTTP client would see it.

    Taken from either form: SQLSTATE PTxyz, or PGRST with JSON in message and detail.
    """

    def __init__(self, error):
        self.error = error
        self.sqlstate = error.pgcode
        self.message = error.diag.message_primary
        self.detail = error.diag.message_detail
        self.hint = error.diag.message_hint
        self.retry_after = None
        if self.sqlstate == 'PGRST':
            body, extra = json.loads(self.message), json.loads(self.detail)
            assert set(extra) >= {'status', 'headers'} and set(body) >= {'code', 'message'}, error
            self.sqlstate, self.message = body['code'], body['message']
            self.detail, self.hint = body.get('details'), body.get('hint')
            self.retry_after = extra['headers'].get('Retry-After')
            assert self.sqlstate == 'PT%d' % extra['status']
        self.status = int(self.sqlstate[2:]) if self.sqlstate and self.sqlstate.startswith('PT') else None
        self.word = self.message.split(':')[0]
        super().__init__(f'{self.sqlstate} {self.message} | {self.detail} | {self.hint}')


class Client(Session):
    """Calls as PostgREST makes them, see postgrest_call.py; an error of ours is raised as Refused."""

    # name -> types of the named arguments, as PostgREST's schema cache knows them
    ARGUMENTS = {
        'process_image': {'tool_id': 'text', 'original_image_storage_path': 'text', 'tool_parameters': 'jsonb',
                          'wait_seconds': 'integer', 'idempotency_key': 'text', 'refresh': 'boolean'},
        'generation_status': {'job_id': 'uuid', 'wait_seconds': 'integer'},
        'cancel_generation': {'job_id': 'uuid'},
        'delete_generation': {'id': 'bigint'},
        'delete_upload': {'path': 'text'},
        'download_image': {'path': 'text', 'expires': 'bigint', 'signature': 'text'},
        'my_account': {},
        'my_usage': {'since': 'timestamptz', 'until': 'timestamptz'},
    }
    ARGUMENTS['analyze_face'] = ARGUMENTS['process_image']

    def pid(self):
        self._connect()
        return self.connection.info.backend_pid

    def begin(self, cursor, method='POST', path='/rpc/', read_only=None, isolation=None, timeout=None):
        """What PostgREST does before the main statement."""
        read_only = method in ('GET', 'HEAD') if read_only is None else read_only
        self.connection.set_session(isolation_level=isolation or 'READ COMMITTED', readonly=read_only)
        self.set_up(cursor, method, path, {'content-type': 'application/json', 'user-agent': 'test'},
                    of_function=[] if timeout is None else [('statement_timeout', timeout)])

    def call(self, sql, parameters=None, commit=True, **options):
        """Any one statement inside a request's transaction; all rows."""
        self._connect()
        try:
            with self.connection.cursor() as cursor:
                self.begin(cursor, **options)
                cursor.execute(sql, parameters)
                rows = cursor.fetchall() if cursor.description else []
            if commit:
                self.connection.commit()
            return rows
        except psycopg2.Error as error:
            with contextlib.suppress(psycopg2.Error):
                self.connection.rollback()
            if error.pgcode and (error.pgcode.startswith('PT') or error.pgcode == 'PGRST'):
                raise Refused(error) from error
            raise

    def hoisted_timeout(self, function):
        self._connect()
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT substr(s, 19) FROM pg_proc p, unnest(proconfig) s WHERE p.pronamespace = 'public'::regnamespace"
                           " AND proname = %s AND s LIKE 'statement_timeout=%%'", (function,))
            row = cursor.fetchone()
        self.connection.rollback()
        return row and row[0]

    def rpc(self, function, *, method='POST', timeout=None, isolation=None, commit=True, body=None, **arguments):
        """POST /rpc/FUNCTION with a JSON body: the result as JSON. With body, arguments only gives the names that are in it."""
        types = self.ARGUMENTS[function]
        if timeout is None:
            timeout = self.hoisted_timeout(function)
        sql, parameters = statement(Function(function, list(types), list(types.values())), arguments)
        rows = self.call(sql, parameters if body is None else (body,), commit=commit, method=method, path='/rpc/' + function, timeout=timeout, isolation=isolation)
        return json.loads(rows[0][0])

    def upload(self, image, method='POST'):
        """POST /rpc/upload_image with the raw bytes as the body."""
        rows = self.call('WITH pgrst_source AS (SELECT public.upload_image(%s::bytea) AS x) SELECT x::text FROM pgrst_source',
                         (psycopg2.Binary(image),), path='/rpc/upload_image', method=method)
        return json.loads(rows[0][0])

    def process(self, tool, path, parameters=None, **arguments):
        if parameters is not None:
            arguments['tool_parameters'] = parameters
        return self.rpc('process_image', tool_id=tool, original_image_storage_path=path, **arguments)

    def analyze(self, tool, path, parameters=None, **arguments):
        if parameters is not None:
            arguments['tool_parameters'] = parameters
        return self.rpc('analyze_face', tool_id=tool, original_image_storage_path=path, **arguments)

    def status(self, job_id, wait_seconds=0, **options):
        return self.rpc('generation_status', job_id=job_id, wait_seconds=wait_seconds, **options)

    def finish(self, job_id, seconds=20):
        """Poll until the job has ended; its last status."""
        end = time.monotonic() + seconds
        while True:
            status = self.status(job_id)
            if status['status'] in ('succeeded', 'failed', 'cancelled'):
                return status
            if time.monotonic() > end:
                raise AssertionError(f'job did not end within {seconds} s: {status}')
            time.sleep(0.03)

    def download(self, path, **arguments):
        """GET /rpc/download_image: bytes and response headers."""
        names = {'path': path, **arguments}
        call = ', '.join(f'{n} := %s' for n in names)
        rows = self.call(f"SELECT (public.download_image({call}))::bytea, nullif(current_setting('response.headers', true), '')",
                         tuple(names.values()), method='GET', path='/rpc/download_image')
        return bytes(rows[0][0]), json.loads(rows[0][1] or '[]')
