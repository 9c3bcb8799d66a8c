/*
 * The code is new; now the data: deltas that this database has not had, and
 * triggers that came with them.  Where a dump is being restored there is no
 * data yet.
 */
DO $run$
DECLARE
	note	text;
	notes	text[] := '{}';
BEGIN
	PERFORM sparky.hand_over();
	IF sparky.installed_version() > 0 THEN
		notes := sparky.confined('install') || sparky.confined('repair_data');
	END IF;
	FOREACH note IN ARRAY notes LOOP
		RAISE WARNING 'sparky: %', note;
	END LOOP;
	PERFORM sparky.detach();
END
$run$;
