-- Who may do what: every role on every object by every verb on every column, and
-- on every function, as the catalog has it, against expected/rights.matrix.
-- After a change that is meant: test/pgtap/regenerate, and read the difference.
\set tests 4
\ir setup.psql
\ir rights.psql

CREATE TEMPORARY TABLE expected_rights (object text, role text, rights text);
\ir expected/rights.matrix

SELECT cmp_ok((SELECT count(*)::integer FROM rights), '>', 300, 'the matrix has rows');
SELECT is_empty('TABLE rights EXCEPT TABLE expected_rights', 'no right that is not written down');
SELECT is_empty('TABLE expected_rights EXCEPT TABLE rights', 'no right that is written down and missing');
-- the comparison can fail
GRANT UPDATE (credits) ON public.users TO authenticated;
SELECT set_eq('TABLE rights EXCEPT TABLE expected_rights',
	$$VALUES ('table public.users', 'authenticated', 'SELECT UPDATE(username,credits,notification_preferences)')$$, 'one column more is seen');

SELECT * FROM finish();
ROLLBACK;
