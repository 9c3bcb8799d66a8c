/*
 * confine.c: steps of the installation that leave nothing of the data owner's
 * behind.
 *
 * The extension script runs as superuser, its steps on the data as the data
 * owner.  An owner's trigger that runs within such a step could queue a deferred
 * trigger (SET CONSTRAINTS ... DEFERRED, then a write); that one would fire at
 * commit, as the session's user.  So where the owner is no superuser the step is a
 * security-restricted operation: PostgreSQL then refuses to queue it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/datum.h"

#include "confine.h"
#include "owner.h"

typedef struct Step
{
	const char *name;
	const char *query;
	SPIPlanPtr	plan;
} Step;

static Step steps[] = {
	{"install", "SELECT sparky.install()", NULL},
	{"repair_data", "SELECT sparky.repair_data()", NULL},
};

static Datum
run(Step *step, MemoryContext result_context)
{
	MemoryContext spi_context;
	Datum		notes;
	bool		isnull;

	if (sparky_execute(sparky_plan(&step->plan, step->query, 0, NULL), NULL, NULL, 0) != 1)
		elog(ERROR, "\"%s\" gave no result", step->query);
	notes = sparky_column(0, 1, &isnull);
	if (isnull)
		elog(ERROR, "\"%s\" gave no notes", step->query);
	spi_context = MemoryContextSwitchTo(result_context);
	notes = datumCopy(PointerGetDatum(PG_DETOAST_DATUM(notes)), false, -1);
	MemoryContextSwitchTo(spi_context);
	return notes;
}

Datum
sparky_confine_run(const char *step, MemoryContext result_context)
{
	for (int i = 0; i < lengthof(steps); i++)
	{
		Datum		notes;
		Oid			user;
		int			context;

		if (strcmp(step, steps[i].name) != 0)
			continue;
		GetUserIdAndSecContext(&user, &context);
		if (!superuser_arg(user))
			SetUserIdAndSecContext(user, context | SECURITY_RESTRICTED_OPERATION);
		notes = run(&steps[i], result_context);
		SetUserIdAndSecContext(user, context);
		return notes;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"%s\" is not a step of the installation", step)));
}
