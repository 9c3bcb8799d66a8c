/*
 * The first catalogue, from the files of seeds/.  In those files overwrite is the
 * function's argument: false adds what is missing, true also puts shipped rows
 * back to what they were.
 */
CREATE FUNCTION sparky.seed(overwrite boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $seed$
#variable_conflict use_column
BEGIN
	SET CONSTRAINTS ALL IMMEDIATE;
@SEEDS@
END
$seed$;
COMMENT ON FUNCTION sparky.seed(boolean) IS
'Fill the catalogue: plans, tools and their prompts, hairstyles, colours, products.

Rows that exist are left alone; with overwrite those that sparky ships are put back. Rows of your own always stay.';
