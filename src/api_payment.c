/*
 * api_payment.c: paymob_webhooks in its two forms; sparky.replay_payments().
 *
 * Anybody may call: a digest is all that is asked for.  Once the transaction is
 * committed the answer is 200, whatever became of the event; 401 and 422 are
 * answers too, not errors, so that what was refused can be kept.  An error means
 * trouble of ours, and that the event should be sent again.  Paymob keeps our
 * answers: they say nothing private.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "json.h"
#include "owner.h"
#include "paymob_callback.h"
#include "payments.h"
#include "postgrest.h"
#include "raise.h"
#include "result.h"
#include "secrets.h"

#define DIGEST_HEADER "x-paymob-hmac"

static Datum receive(FunctionCallInfo fcinfo, const char *digest);
static const char *required_secret(void);
static char *header_digest(void);
static void refuse(const char *reason, const char *digest, const char *body);
static Datum answer(int status, const char *result);

/* paymob_webhooks(json): the digest is in a header. */
SPARKY_FACE(sparky_paymob_webhooks_json, paymob_webhooks_json);
static Datum
paymob_webhooks_json(PG_FUNCTION_ARGS)
{
	return receive(fcinfo, header_digest());
}

/* paymob_webhooks(payload text, hmac text) */
SPARKY_FACE(sparky_paymob_webhooks_text, paymob_webhooks_text);
static Datum
paymob_webhooks_text(PG_FUNCTION_ARGS)
{
	return receive(fcinfo, PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1)));
}

static Datum
receive(FunctionCallInfo fcinfo, const char *digest)
{
	PaymobCallback callback,
				flat;
	PaymentResult result;
	OwnerScope	scope;
	const char *secrets;
	const char *type;
	char	   *body;
	char	   *utf8;
	char		why[160];
	bool		genuine;

	PreventCommandIfReadOnly("paymob_webhooks");
	secrets = required_secret();
	if (PG_ARGISNULL(0))
		return answer(422, "unreadable");
	body = text_to_cstring(PG_GETARG_TEXT_PP(0));
	utf8 = pg_server_to_any(body, strlen(body), PG_UTF8);

	/* What is malloc'd is freed before anything of ours can throw; a flat copy goes on. */
	(void) sparky_paymob_read(utf8, strlen(utf8), &callback, why, sizeof(why));
	genuine = sparky_paymob_verify(&callback, digest, secrets);
	flat = callback;
	sparky_paymob_callback_free(&callback);
	type = flat.type;

	if (type == NULL)
	{
		refuse(psprintf("unreadable: %s", why), digest, body);
		return answer(422, "unreadable");
	}
	/* The body of a TOKEN can be used to pay with: it is not kept. */
	if (strcmp(type, "TRANSACTION") != 0)
	{
		refuse(psprintf("ignored: %s", type), digest, strcmp(type, "TOKEN") == 0 ? "" : body);
		return answer(200, "ignored");
	}
	if (!genuine)
	{
		refuse(digest == NULL || digest[0] == '\0' ? "no digest" : "wrong digest", digest, body);
		return answer(401, "unauthorized");
	}
	sparky_owner_enter(&scope);
	sparky_payments_record(&flat, body, PAYMENT_WEBHOOK, GetCurrentTimestamp(), &result);
	sparky_owner_leave(&scope);
	return answer(200, result.result);
}

/* Without it nothing can be genuine, nor can anything be refused for not being so. */
static const char *
required_secret(void)
{
	OwnerScope	scope;
	const char *secrets;

	sparky_owner_enter(&scope);
	sparky_secrets_refresh();
	sparky_owner_leave(&scope);
	secrets = sparky_secret(SECRET_PAYMOB_HMAC_SECRET);
	if (secrets == NULL || secrets[strspn(secrets, " \t\r\n\v\f,")] == '\0')
		sparky_raise(WORD_NOT_CONFIGURED, psprintf("%s is not set.", sparky_secret_setting(SECRET_PAYMOB_HMAC_SECRET)), NULL, 0);
	return secrets;
}

/* PostgREST hands over all headers as JSON, their names in lower case. NULL: it is not among them. */
static char *
header_digest(void)
{
	const char *headers = GetConfigOption("request.headers", true, false);
	JsonValue  *parsed;
	const char *found;
	char		why[160];
	char		digest[1024];

	if (headers == NULL || headers[0] == '\0')
		return NULL;
	/* Nothing between parse and free can throw. */
	parsed = sparky_json_parse(headers, strlen(headers), why, sizeof(why));
	found = sparky_json_string(sparky_json_get(parsed, DIGEST_HEADER), NULL);
	if (found != NULL)
		strlcpy(digest, found, sizeof(digest));
	sparky_json_free(parsed);
	if (found == NULL)
		return NULL;
	/* What is cut is no digest, but it is kept with what it came with: as whole characters. */
	return pnstrdup(digest, pg_mbcliplen(digest, strlen(digest), sizeof(digest)));
}

static void
refuse(const char *reason, const char *digest, const char *body)
{
	OwnerScope	scope;

	sparky_owner_enter(&scope);
	sparky_payments_refuse(reason, digest, body, GetCurrentTimestamp());
	sparky_owner_leave(&scope);
}

static Datum
answer(int status, const char *result)
{
	sparky_response_status(psprintf("%d", status));
	return sparky_jsonb(psprintf("{\"status\":%d,\"result\":\"%s\"}", status, result));
}

/* sparky.replay_payments() */
SPARKY_FUNCTION(sparky_replay_payments);
Datum
sparky_replay_payments(PG_FUNCTION_ARGS)
{
	OwnerScope	scope;
	int64		events;

	PreventCommandIfReadOnly("sparky.replay_payments");
	sparky_owner_enter(&scope);
	events = sparky_payments_replay(GetCurrentTimestamp());
	sparky_owner_leave(&scope);
	PG_RETURN_INT64(events);
}

/* sparky.payments_to_review() */
SPARKY_FUNCTION(sparky_payments_to_review);
Datum
sparky_payments_to_review(PG_FUNCTION_ARGS)
{
	OwnerScope	scope;
	int64		count;

	sparky_owner_enter(&scope);
	count = sparky_payments_flagged();
	sparky_owner_leave(&scope);
	PG_RETURN_INT64(count);
}
