/* api_install.c: sparky.confined(step), for the extension script. */
#include "postgres.h"

#include "utils/builtins.h"

#include "compat.h"
#include "confine.h"
#include "owner.h"

SPARKY_FUNCTION(sparky_confined);
Datum
sparky_confined(PG_FUNCTION_ARGS)
{
	char	   *step = PG_ARGISNULL(0) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(0));
	OwnerScope	scope;
	Datum		notes;

	sparky_owner_enter(&scope);
	notes = sparky_confine_run(step, scope.caller_context);
	sparky_owner_leave(&scope);
	PG_RETURN_DATUM(notes);
}
