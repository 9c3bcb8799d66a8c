"""Two databases of one server, each with its worker; DROP, RENAME, SET TABLESPACE and
copies while calls are in flight; the extension dropped and made again."""

import shutil
import time

import psycopg2
import pytest
from background import Background, photos_called, statuses, submit, wait_ended
from conftest import KEY, User, assert_ledger
from sparky_server import AS_ROOT, Server, process_alive, wait_for

CONF = ["sparky.max_databases = 12"]
# A statement that needs the database without sessions: core waits 5 s for them to leave, and then refuses.
AT_ONCE = 4.0


class Database:
    """A database of its own with sparky, its worker, users and jobs in flight."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        server.query(f'CREATE DATABASE {name}')
        server.psql('CREATE EXTENSION sparky', db=name)
        self.worker = server.worker_pid(name)
        self.users = [User(server, db=name), User(server, db=name)]

    def start(self, emulator, number=6):
        """Jobs whose calls are held by the emulator; no session of ours stays in the database."""
        before = emulator.stats()['received']
        emulator.hold()
        jobs = submit(self.users, number)
        emulator.wait_calls(before + number)
        self.leave()
        return jobs

    def leave(self):
        for user in self.users:
            user.api.close()
        self.server.query("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'",
                          (self.name,))

    def drop(self):
        self.leave()
        self.server.query(f'DROP DATABASE IF EXISTS {self.name} (FORCE)')


@pytest.fixture
def database(server):
    made = []

    def make(name):
        made.append(Database(server, name))
        return made[-1]
    yield make
    for one in made:
        one.drop()


def at_once(server, statement, **where):
    start = time.monotonic()
    server.query(statement, **where)
    seconds = time.monotonic() - start
    assert seconds < AT_ONCE, (statement, seconds)


def ends_well(server, database, jobs, users=2, name=None):
    name = name or database.name
    assert wait_ended(server, jobs, 15, db=name) == {'succeeded': len(jobs)}
    assert_ledger(server, db=name)
    for user in database.users:
        user.db = user.api.db = name
        user.assert_money(credits=10 - len(jobs) // users, usage=len(jobs) // users)


def test_two_databases(server, emulator, database):
    """Each database has its own worker, users and jobs; the same user id in both is two people."""
    one, two = database('one'), database('two')
    assert one.worker != two.worker != server.worker_pid()
    jobs = one.start(emulator, 4), two.start(emulator, 4)
    assert server.value('SELECT count(*) FROM public.generation_jobs', db='one') == 4
    emulator.release()
    for base, mine in zip((one, two), jobs):
        ends_well(server, base, mine)
        assert server.value('SELECT count(*) FROM public.generation_jobs', db=base.name) == 4
    assert len(emulator.calls()) == 8
    # the end of one worker is nothing to the other
    server.value('SELECT pg_terminate_backend(%s)', (one.worker,))
    assert two.users[0].api.process('vintage', two.users[0].photo())['status'] == 'succeeded'
    assert one.users[0].api.process('vintage', one.users[0].photo())['status'] == 'succeeded'
    assert server.worker_pid('two') == two.worker and server.worker_pid('one') != one.worker


def test_drop(server, emulator, database, user):
    """The worker and its calls go with the database; the others of the server go on."""
    one = database('one')
    emulator.hold()
    mine = submit([user], 2)
    emulator.wait_calls(2)
    one.start(emulator)
    at_once(server, 'DROP DATABASE one')
    wait_for(lambda: not process_alive(one.worker), 20, 'the end of the worker')
    wait_for(lambda: emulator.stats()['in_flight'] == 2, 20, 'the end of the calls')
    emulator.release()
    assert wait_ended(server, mine) == {'succeeded': 2}
    user.assert_money(credits=8, usage=2)
    time.sleep(1.2)
    assert server.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sparky worker'") == 1


def test_place_of_a_caller_in_a_database_that_is_gone(emulator_process):
    """A caller leaves while his request is in the worker's hands, and the worker goes with the database: whoever gets
    his place in shared memory next, in another database, is served."""
    conf = ['max_connections = 12', 'superuser_reserved_connections = 0', "sparky.accept_timeout = '1s'"]
    with Server(emulator=emulator_process, key=KEY, conf=conf) as server:
        server.query('CREATE DATABASE gone')
        server.psql("""CREATE EXTENSION sparky;
            CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END';
            CREATE TRIGGER slow BEFORE INSERT ON public.generation_jobs FOR EACH ROW EXECUTE FUNCTION public.slow()""", db='gone')
        server.worker_pid('gone')
        leaver = User(server, db='gone')
        path, pid = leaver.photo(), leaver.api.pid()
        caller = Background(leaver.api.process, 'vintage', path)
        wait_for(lambda: server.value("SELECT 1 FROM pg_stat_activity WHERE backend_type = 'sparky worker' AND wait_event = 'PgSleep'"),
                 10, 'the acceptance to begin')
        server.value('SELECT pg_terminate_backend(%s, 5000)', (pid,))
        assert isinstance(caller.error(), psycopg2.OperationalError)
        server.query('DROP DATABASE gone')

        user = User(server, credits=100, plan=3)
        path, sessions = user.photo(), [user.api]
        with pytest.raises(psycopg2.OperationalError, match='too many clients'):
            while True:             # every place there is
                session = user.another_session()
                session.pid()
                sessions.append(session)
        for session in sessions:
            assert session.process('vintage', path, wait_seconds=0)['status'] in ('queued', 'running', 'succeeded')
        for session in sessions:
            session.close()


def test_drop_fails_and_the_worker_is_back(server, emulator, database):
    """Somebody's session keeps the database: the statement fails as without us, and the jobs go on."""
    one = database('one')
    jobs = one.start(emulator, 2)
    session = server.connect('one')
    with pytest.raises(psycopg2.errors.ObjectInUse):
        server.query('DROP DATABASE one')
    session.close()
    assert server.worker_pid('one') != one.worker
    emulator.release()
    ends_well(server, one, jobs)
    assert set(photos_called(emulator).values()) == {2}     # each call was lost once with the worker


def test_rename(server, emulator, database):
    one = database('one')
    jobs = one.start(emulator)
    at_once(server, 'ALTER DATABASE one RENAME TO renamed')
    try:
        assert server.worker_pid('renamed') != one.worker
        emulator.release()
        ends_well(server, one, jobs, name='renamed')
        assert one.users[0].api.process('vintage', one.users[0].photo())['status'] == 'succeeded'
        assert max(photos_called(emulator).values()) == 2
    finally:
        one.name = 'renamed'


def test_set_tablespace(server, emulator, database):
    one = database('one')
    place = server.dir / 'elsewhere'
    place.mkdir()
    if AS_ROOT:
        shutil.chown(place, 'postgres', 'postgres')
    server.query(f"CREATE TABLESPACE elsewhere LOCATION '{place}'")
    jobs = one.start(emulator)
    at_once(server, 'ALTER DATABASE one SET TABLESPACE elsewhere')
    emulator.release()
    ends_well(server, one, jobs)
    one.drop()
    server.query('DROP TABLESPACE elsewhere')


def test_template(server, emulator, database):
    """The copy voids its jobs and calls nobody; the original ends its own; each has an identity."""
    one = database('one')
    before = emulator.stats()['received']
    jobs = one.start(emulator)
    at_once(server, 'CREATE DATABASE copy TEMPLATE one')
    try:
        server.worker_pid('copy')
        wait_for(lambda: statuses(server, jobs, db='copy') == ['cancelled'] * 6, 20, 'the copy to void its jobs')
        server.worker_pid('one')
        wait_for(lambda: emulator.stats()['received'] == before + 12, 20, 'the calls of the original')
        emulator.release()
        ends_well(server, one, jobs)
        assert emulator.stats()['received'] == before + 12
        assert server.value("SELECT count(*) FROM sparky.provider_calls WHERE outcome = 'ok'", db='copy') == 0
        assert server.query('SELECT DISTINCT outcome, finished_at IS NOT NULL FROM sparky.provider_calls', db='copy') == [('unknown', True)]
        assert server.value('SELECT sum(credits_held) FROM public.generation_jobs', db='copy') == 0
        assert server.value('SELECT array_agg(DISTINCT credits) FROM public.users', db='copy') == [10]
        assert statuses(server, jobs, db='copy') == ['cancelled'] * 6
        assert server.value('SELECT count(*) FROM public.generation_jobs WHERE error_code IS NOT NULL', db='copy') == 0
        identity = 'SELECT database_oid, download_key, address_key FROM sparky.instance'
        (oid, download, address), (copied_oid, copied_download, copied_address) = server.row(identity, db='one'), server.row(identity, db='copy')
        assert oid != copied_oid and bytes(download) != bytes(copied_download) and bytes(address) == bytes(copied_address)
        # the copy is a whole working system
        for user in one.users:
            user.db = user.api.db = 'copy'
            user.api.close()
        result = one.users[0].api.process('vintage', one.users[0].photo())
        assert result['status'] == 'succeeded' and result['credits_remaining'] == 9
        assert_ledger(server, db='copy')
    finally:
        one.leave()
        server.query('DROP DATABASE copy (FORCE)')


def test_copy_with_kept_answers(server, emulator, database):
    """An answer that was already paid for is settled in the copy too, by its own books."""
    one = database('one')
    emulator.hold()
    jobs = submit(one.users[:1], 1)
    emulator.wait_calls(1)
    server.psql("""CREATE FUNCTION public.not_now() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
                   CREATE TRIGGER not_now BEFORE INSERT ON public.credit_usage FOR EACH ROW EXECUTE FUNCTION public.not_now()""", db='one')
    emulator.release()
    wait_for(lambda: server.value('SELECT count(*) FROM sparky.answers', db='one') == 1, 20, 'the answer to be kept')
    one.leave()
    at_once(server, 'CREATE DATABASE copy TEMPLATE one')
    try:
        for name in ('one', 'copy'):
            server.psql('DROP FUNCTION public.not_now() CASCADE', db=name)
            assert wait_ended(server, jobs, 10, db=name) == {'succeeded': 1}
            assert server.value('SELECT credits FROM public.users WHERE id = %s', (one.users[0].id,), db=name) == 9
            assert_ledger(server, db=name)
        assert len(emulator.calls()) == 1
    finally:
        one.leave()
        server.query('DROP DATABASE copy (FORCE)')


def test_extension_dropped_and_made_again(server, emulator, database):
    """The worker leaves with the extension and comes with it; jobs wait for it; the data stands."""
    one = database('one')
    jobs = one.start(emulator)
    server.psql('DROP EXTENSION sparky CASCADE', db='one')
    wait_for(lambda: not process_alive(one.worker), 20, 'the worker to leave')
    time.sleep(1.5)
    assert server.process('sparky worker', 'one') is None
    assert server.value('SELECT count(*) FROM public.generation_jobs', db='one') == 6
    assert server.value('SELECT count(*) FROM public.users', db='one') == 2
    server.psql('CREATE EXTENSION sparky', db='one')
    assert server.worker_pid('one') != one.worker
    emulator.release()
    ends_well(server, one, jobs)
    assert one.users[0].api.process('vintage', one.users[0].photo())['status'] == 'succeeded'
    third = User(server, db='one')
    assert third.credits() == 10
    third.api.close()


def test_extension_comes_late_and_with_rollback(server, emulator):
    """A database without sparky has no worker; a rolled-back CREATE EXTENSION brings none."""
    server.query('CREATE DATABASE plain')
    try:
        session = server.connect('plain', autocommit=False)
        session.cursor().execute('CREATE EXTENSION sparky')
        session.rollback()
        session.close()
        time.sleep(1.2)
        assert server.process('sparky worker', 'plain') is None
        server.psql('CREATE EXTENSION sparky', db='plain')
        server.worker_pid('plain', 20)
    finally:
        server.query('DROP DATABASE plain (FORCE)')


def test_who_may_not_drop_may_not_stop(server, emulator, database):
    """A role without rights tries each statement: the worker does not notice."""
    one = database('one')
    jobs = one.start(emulator)
    server.psql('CREATE ROLE mallory LOGIN CREATEDB')
    try:
        for statement in ('DROP DATABASE one', 'DROP DATABASE one (FORCE)', 'ALTER DATABASE one RENAME TO mine',
                          'ALTER DATABASE one SET TABLESPACE pg_default', 'CREATE DATABASE mine TEMPLATE one'):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                server.query(statement, user='mallory')
        assert server.worker_pid('one') == one.worker
        emulator.release()
        ends_well(server, one, jobs)
        assert set(photos_called(emulator).values()) == {1}
    finally:
        server.psql('DROP ROLE mallory')


def test_caller_in_the_template(server, emulator, database):
    """His session keeps the database from being copied; his photo meets a worker that comes back, and is done all the same."""
    one = database('one')
    path = one.users[0].photo()
    emulator.hold()
    caller = Background(one.users[0].api.process, 'cartoon', path)
    emulator.wait_calls(1)
    with pytest.raises(psycopg2.errors.ObjectInUse):
        server.query('CREATE DATABASE copy TEMPLATE one')
    emulator.release()
    assert caller.result()['status'] == 'succeeded'
    one.users[0].assert_money(credits=9, usage=1)


def test_closed_database(server, emulator, database):
    """A database that lets nobody in has no worker; when it opens again, its worker and its jobs go on."""
    one = database('one')
    jobs = one.start(emulator, 2)
    server.query('ALTER DATABASE one ALLOW_CONNECTIONS false')
    wait_for(lambda: not process_alive(one.worker), 20, 'the worker to leave')
    time.sleep(1.2)
    assert server.process('sparky worker', 'one') is None
    server.query('ALTER DATABASE one ALLOW_CONNECTIONS true')
    assert server.worker_pid('one') != one.worker
    emulator.release()
    ends_well(server, one, jobs)


def test_owner_without_login(server, emulator):
    """The worker cannot connect as an owner who may not log in: health() names him, also when he loses it later."""
    server.psql('CREATE ROLE keeper LOGIN; CREATE ROLE mute NOLOGIN; CREATE DATABASE kept; CREATE DATABASE muted')
    trouble = lambda owner: [f'the data owner {owner} has no LOGIN, so the worker cannot connect as him']      # noqa: E731
    problems = lambda db: server.value("SELECT sparky.health() -> 'problems'", db=db)      # noqa: E731
    try:
        for db, owner in ('kept', 'keeper'), ('muted', 'mute'):
            server.psql(f"CREATE SCHEMA sparky AUTHORIZATION {owner}; GRANT CREATE ON SCHEMA public TO {owner};"
                        " SET sparky.install = 'full'; CREATE EXTENSION sparky", db=db)
        worker = server.worker_pid('kept')
        wait_for(lambda: problems('kept') == [] and problems('muted') == trouble('mute'), 20, 'health() to name the owner')
        server.query('ALTER ROLE keeper NOLOGIN')
        server.query('SELECT pg_terminate_backend(%s)', (worker,))
        wait_for(lambda: problems('kept') == trouble('keeper'), 20, 'health() to name him who lost it')
    finally:
        server.psql('DROP DATABASE kept (FORCE)')
        server.psql('DROP DATABASE muted (FORCE)')
        server.psql('DROP ROLE keeper, mute')


def test_another_owner(server, emulator):
    """The data get another owner: the worker of the old one, who may not touch them any more, leaves, and one of the new one serves."""
    server.psql('CREATE ROLE keeper LOGIN; CREATE ROLE heir LOGIN; CREATE DATABASE inherited')
    owner = "SELECT usename FROM pg_stat_activity WHERE backend_type = 'sparky worker' AND datname = 'inherited'"
    try:
        server.psql("CREATE SCHEMA sparky AUTHORIZATION keeper; GRANT CREATE ON SCHEMA public TO keeper, heir;"
                    " SET sparky.install = 'full'; CREATE EXTENSION sparky", db='inherited')
        server.worker_pid('inherited')
        assert server.value(owner) == 'keeper'
        server.psql('REASSIGN OWNED BY keeper TO heir; SELECT sparky.repair()', db='inherited')
        wait_for(lambda: server.value(owner) == 'heir', 15, 'a worker of the new owner')
        user = User(server, db='inherited')
        assert user.api.process('vintage', user.photo())['status'] == 'succeeded'
        user.api.close()
    finally:
        server.psql('DROP DATABASE inherited (FORCE)')
        server.psql('DROP ROLE keeper, heir')


def test_databases_setting(server, emulator, database):
    """sparky.databases names who is served."""
    one = database('one')
    one.leave()
    server.configure("sparky.databases = 'postgres'")
    server.restart()
    try:
        server.worker_pid('postgres')
        time.sleep(1)
        assert server.process('sparky worker', 'one') is None
    finally:
        server.configure("sparky.databases = '*'")
        server.restart()
    server.worker_pid('one')
