/*
 * notify.c: notifications that the engine writes, as rows that Realtime pushes.
 *
 * All are of type general.  For jobs generalAlerts decides, and only the JSON
 * false in it says no; a payment is told in any case.  One statement each: the
 * balance that it looks at is the one of this transaction, whose user row is
 * locked.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "broadcast.h"
#include "notify.h"
#include "owner.h"

#define WANTED " u.notification_preferences -> 'generalAlerts' IS DISTINCT FROM 'false'::pg_catalog.jsonb"

void
sparky_notify_failed(const pg_uuid_t *user_id, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, TIMESTAMPTZOID};
	Datum		values[] = {UUIDPGetDatum(user_id), TimestampTzGetDatum(now)};

	sparky_plan(&plan,
				"INSERT INTO public.notifications (user_id, type, title_key, message_key, created_at)"
				" SELECT u.id, 'general', 'notification.generation_failed.title', 'notification.generation_failed.message', $2"
				" FROM public.users u WHERE u.id = $1 AND" WANTED, 2, types);
	(void) sparky_execute(plan, values, NULL, 0);
}

void
sparky_notify_low(const pg_uuid_t *user_id, int charged, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, TIMESTAMPTZOID, INT4OID, INT4OID};
	Datum		values[] = {UUIDPGetDatum(user_id), TimestampTzGetDatum(now), Int32GetDatum(charged), Int32GetDatum(SPARKY_LOW_CREDITS)};

	if (charged <= 0)
		return;
	sparky_plan(&plan,
				"INSERT INTO public.notifications (user_id, type, title_key, message_key, created_at)"
				" SELECT u.id, 'general', 'notification.credits_low.title', 'notification.credits_low.message', $2"
				" FROM public.users u WHERE u.id = $1 AND u.credits < $4"
				" AND u.credits::pg_catalog.int8 - u.debt + $3 >= $4 AND" WANTED, 4, types);
	(void) sparky_execute(plan, values, NULL, 0);
}

void
sparky_notify_payment(const pg_uuid_t *user_id, const char *event, TimestampTz now)
{
	static SPIPlanPtr plan = NULL;
	static const Oid types[] = {UUIDOID, TIMESTAMPTZOID, TEXTOID};
	Datum		values[] = {UUIDPGetDatum(user_id), TimestampTzGetDatum(now), CStringGetTextDatum(event)};

	sparky_plan(&plan,
				"INSERT INTO public.notifications (user_id, type, title_key, message_key, created_at)"
				" VALUES ($1, 'general', 'notification.' || $3 || '.title', 'notification.' || $3 || '.message', $2)", 3, types);
	(void) sparky_execute(plan, values, NULL, 0);
	sparky_broadcast_account(user_id);
}
