"""Scheduled work with the real pg_cron: scheduled by install, run by pg_cron itself, as the data owner."""

import time

import psycopg2
import pytest
from sparky_server import Server, wait_for

JOBS = {
    'cleanup-cache': ('0 3 * * *', 'CALL sparky.cleanup_cache()'),
    'cleanup-history': ('20 3 * * *', 'CALL sparky.cleanup_history()'),
    'cleanup-storage': ('40 3 * * *', 'CALL sparky.cleanup_storage()'),
    'cleanup-erasures': ('*/15 * * * *', 'CALL sparky.cleanup_erasures()'),
    'cleanup-plans': ('5 * * * *', 'CALL sparky.cleanup_plans()'),
    'cleanup-jobs': ('*/5 * * * *', 'CALL sparky.cleanup_jobs()'),
    'reconcile-payments': ('*/5 * * * *', 'SELECT sparky.reconcile_payments()'),
}


@pytest.fixture(scope='module')
def cron():
    """pg_cron is there before sparky, which a superuser installs for a data owner who is none."""
    with Server(conf=["cron.database_name = 'postgres'", "cron.timezone = 'GMT'"], preload='pg_cron,sparky', extension=False) as server:
        server.psql("""CREATE ROLE app_owner LOGIN; GRANT CREATE ON DATABASE postgres TO app_owner; GRANT CREATE ON SCHEMA public TO app_owner;
            CREATE EXTENSION pg_cron; GRANT USAGE ON SCHEMA cron TO app_owner; CREATE SCHEMA sparky AUTHORIZATION app_owner;
            SET sparky.install = 'full'; CREATE EXTENSION sparky;""")
        server.worker_pid()
        yield server


def jobs(server):
    return {name: (schedule, command) for name, schedule, command in server.query('SELECT jobname, schedule, command FROM cron.job')}


def test_install_schedules_as_the_data_owner(cron):
    assert jobs(cron) == JOBS
    assert cron.query('SELECT DISTINCT username, database, active FROM cron.job') == [('app_owner', 'postgres', True)]


def test_the_list_is_the_schedule(cron):
    assert {name: (schedule, command) for name, schedule, command in cron.query('SELECT * FROM sparky.cron_jobs()')} == JOBS


def test_every_job_runs_by_hand_and_twice(cron):
    for _, command in JOBS.values():
        for who in ('postgres', 'app_owner', 'app_owner'):
            cron.query(command, user=who)


def test_a_job_in_a_transaction_says_so(cron):
    cron.query("INSERT INTO cache.kv_store (key, value, expires_at) VALUES ('in-a-transaction', '{}', now() - interval '1 day')")
    connection = cron.connect(autocommit=False)
    with connection.cursor() as cursor, pytest.raises(psycopg2.Error) as error:
        cursor.execute('CALL sparky.cleanup_cache()')
    assert error.value.pgcode == '2D000'
    connection.close()
    cron.query('CALL sparky.cleanup_cache()')
    assert cron.value("SELECT count(*) FROM cache.kv_store WHERE key = 'in-a-transaction'") == 0


def test_scheduling_again_changes_nothing(cron):
    before = cron.query('SELECT * FROM cron.job ORDER BY jobid')
    assert cron.value('SELECT sparky.schedule_jobs()') == 0
    cron.query('SELECT sparky.install()')
    cron.query('SELECT sparky.repair()')
    assert cron.query('SELECT * FROM cron.job ORDER BY jobid') == before


def test_what_an_operator_changed_stays(cron):
    cron.query("SELECT cron.schedule('cleanup-cache', '30 4 * * *', 'CALL sparky.cleanup_cache()')", user='app_owner')
    assert cron.value('SELECT sparky.schedule_jobs()') == 0
    assert jobs(cron)['cleanup-cache'][0] == '30 4 * * *'
    assert cron.value('SELECT sparky.unschedule_jobs()') == len(JOBS) and jobs(cron) == {}
    assert cron.value('SELECT sparky.schedule_jobs()', user='app_owner') == len(JOBS) and jobs(cron) == JOBS


def test_jobs_survive_the_extension(cron):
    before = cron.query('SELECT * FROM cron.job ORDER BY jobid')
    cron.psql('DROP EXTENSION sparky CASCADE; CREATE EXTENSION sparky')
    assert cron.query('SELECT * FROM cron.job ORDER BY jobid') == before


def test_pg_cron_runs_a_job_by_itself(cron):
    """The very command of the job, every minute instead of daily (pg_cron counts in minutes): the row goes without anybody's help, by the data owner's hand."""
    cron.psql("""CREATE TABLE public.who (name text); ALTER TABLE public.who OWNER TO app_owner;
        CREATE FUNCTION public.who() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO public.who VALUES (current_user || ' ' || session_user); RETURN NULL; END $$;
        CREATE TRIGGER who AFTER DELETE ON cache.kv_store FOR EACH ROW EXECUTE FUNCTION public.who();
        INSERT INTO cache.kv_store (key, value, expires_at)
            SELECT 'old' || n, '{}'::jsonb, now() - interval '1 day' FROM generate_series(1, 2500) n
            UNION ALL SELECT 'fresh', '{}', now() + interval '1 day';""")
    job = cron.value("SELECT jobid FROM cron.job WHERE jobname = 'cleanup-cache'")
    cron.query("SELECT cron.schedule('cleanup-cache', '* * * * *', 'CALL sparky.cleanup_cache()')", user='app_owner')
    try:
        wait_for(lambda: cron.value("SELECT count(*) FROM cron.job_run_details WHERE jobid = %s AND status = 'succeeded'", (job,)), 100, 'a run by pg_cron', 0.5)
    finally:
        cron.query("SELECT cron.schedule('cleanup-cache', '0 3 * * *', 'CALL sparky.cleanup_cache()')", user='app_owner')
    assert cron.query('SELECT key FROM cache.kv_store') == [('fresh',)]
    assert cron.query('SELECT name, count(*) FROM public.who GROUP BY name') == [('app_owner app_owner', 2500)]
    assert cron.query('SELECT DISTINCT username FROM cron.job_run_details WHERE jobid = %s', (job,)) == [('app_owner',)]


def test_notes_on_runs_are_kept_for_a_while(cron):
    job = cron.value("SELECT jobid FROM cron.job WHERE jobname = 'cleanup-jobs'")
    cron.psql(f"""SELECT cron.schedule('somebody-elses', '0 0 1 1 *', 'SELECT 1');
        INSERT INTO cron.job_run_details (jobid, runid, username, status, start_time, end_time) VALUES
            ({job}, 900001, 'app_owner', 'succeeded', now() - interval '8 days', now() - interval '8 days'),
            ({job}, 900002, 'app_owner', 'succeeded', now() - interval '6 days', now() - interval '6 days'),
            ((SELECT jobid FROM cron.job WHERE jobname = 'somebody-elses'), 900003, 'postgres', 'succeeded', now() - interval '1 year', now() - interval '1 year');""")
    cron.query('CALL sparky.cleanup_history()')
    assert cron.query('SELECT runid FROM cron.job_run_details WHERE runid > 900000 ORDER BY 1') == [(900002,), (900003,)]


def test_without_pg_cron_a_notice(cron):
    """In a database beside pg_cron's: a notice by CREATE EXTENSION, no warning, no job; the clean-up can be called all the same."""
    cron.psql('CREATE DATABASE beside')
    said = cron.psql('CREATE EXTENSION sparky', db='beside', check=False)
    assert said.returncode == 0
    assert 'NOTICE:  sparky: pg_cron is not in this database' in said.stderr and 'schedule_jobs()' in said.stderr and 'WARNING' not in said.stderr
    assert cron.value('SELECT sparky.schedule_jobs()', db='beside') == 0
    assert cron.value('SELECT sparky.unschedule_jobs()', db='beside') == 0
    for _, command in JOBS.values():
        cron.query(command, db='beside')


def test_an_owner_without_rights_on_cron(cron):
    """CREATE EXTENSION succeeds and says what to do."""
    with Server(conf=["cron.database_name = 'postgres'"], preload='pg_cron,sparky', extension=False) as server:
        server.psql("""CREATE ROLE app_owner LOGIN; GRANT CREATE ON DATABASE postgres TO app_owner; GRANT CREATE ON SCHEMA public TO app_owner;
            CREATE EXTENSION pg_cron; REVOKE USAGE ON SCHEMA cron FROM PUBLIC; CREATE SCHEMA sparky AUTHORIZATION app_owner""")
        said = server.psql("SET sparky.install = 'full'; CREATE EXTENSION sparky", check=False)
        assert said.returncode == 0 and 'nothing was scheduled with pg_cron' in said.stderr and 'GRANT USAGE ON SCHEMA cron TO app_owner' in said.stderr
        assert jobs(server) == {}
        server.query('CALL sparky.cleanup_history()')
        server.psql('GRANT USAGE ON SCHEMA cron TO app_owner')
        assert server.value('SELECT sparky.schedule_jobs()') == len(JOBS)
        assert server.query('SELECT DISTINCT username FROM cron.job') == [('app_owner',)]
